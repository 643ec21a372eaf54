"""A look at the sources of runs counts for all that were seen before it began."""

import asyncio

from crewrun_operator import paths
from crewrun_operator.apply import Applier
from crewrun_operator.decide import decide
from crewrun_operator.looks import Looks
from crewrun_operator.store import Store
from tests.unit.builders import DEFAULTS, NAMESPACE, NOON, CrewBuilder, RunBuilder
from tests.unit.fake_api import FakeApi

SOURCES, FOUND = ("team-a", "research"), (7,)


def test_a_look_counts_for_the_runs_that_were_seen_before_it_began() -> None:
    looks = Looks()
    looks.see("before")
    began = looks.begin()
    looks.see("meanwhile")
    looks.end(SOURCES, began, FOUND)
    assert looks.count("before", SOURCES, FOUND)
    assert not looks.count("meanwhile", SOURCES, FOUND)
    assert not looks.count("before", ("team-a", "other"), FOUND)
    assert not looks.count("before", SOURCES, (8,)), "a watch has told of something else"
    looks.see("before")
    assert not looks.count("before", SOURCES, FOUND), "it asks for something else now"


def test_runs_that_come_together_share_a_look() -> None:
    async def story() -> None:
        api = FakeApi()
        api.put(paths.custom(paths.CREWS, NAMESPACE, "research"), CrewBuilder().build())
        store = Store(DEFAULTS)
        applier = Applier(api, store)  # type: ignore[arg-type]
        names = [f"r-{number}" for number in range(5)]
        for name in names:
            run = RunBuilder().metadata(name=name, uid=f"uid-of-{name}").build()
            store.put_run(api.put(paths.custom(paths.CREWRUNS, NAMESPACE, name), run))

        async def work(name: str) -> None:
            observed = store.observe((NAMESPACE, name))
            assert observed is not None
            await applier.apply(observed.run, decide(observed, NOON), NOON)

        await asyncio.gather(*map(work, names))
        assert len(api.reads) == 3, api.reads
        await asyncio.gather(*map(work, names))
        assert len(api.reads) == 3 and sum(write.startswith("POST") for write in api.writes) == 5
        late = RunBuilder().metadata(name="late", uid="uid-of-late").build()
        store.put_run(api.put(paths.custom(paths.CREWRUNS, NAMESPACE, "late"), late))
        await work("late")
        assert len(api.reads) == 6, "what was applied before it may have been seen by nobody yet"

    asyncio.run(story())
