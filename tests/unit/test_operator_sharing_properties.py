"""Rates that are shared, in random histories of operator and runners: both halves are the real ones."""

from dataclasses import dataclass, field
from math import inf
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.outcome import Usage
from crewrun_operator import sharing as sharing_module
from crewrun_operator.leases import Leases, Rate
from crewrun_operator.sharing import LEASE_SECONDS
from crewrun_runner.pacing import Pacing
from tests.unit.builders import ReportBuilder

QUEUE = ("team-a", "shared")


@dataclass
class Runner:
    """The runner's own half, with a clock of its own."""

    name: str
    skew: float
    used: int = 0
    pacing: Pacing = field(default_factory=Pacing)

    def __post_init__(self) -> None:
        self.pacing.bind()

    def rate(self, now: float) -> float:
        """At what rate it may ask now."""
        told = self.pacing.told(now + self.skew)
        return (told.requests_per_minute or 0.0) if told else inf

    def ask(self, now: float) -> None:
        """Make requests while it may, up to three."""
        for _ in range(3):
            if self.pacing.seconds(now + self.skew) > 0:
                self.pacing.waited()
                return
            self.used += 1
            self.pacing.take(self.used, 0, now + self.skew)


class World:
    """An operator that may be restarted, and runners that it knows by their reports alone."""

    def __init__(self, rate: float) -> None:
        self.rate, self.now, self.joined = rate, 0.0, 0
        self.leases = Leases(-LEASE_SECONDS)
        self.runners: list[Runner] = []
        self.asked: list[float] = []

    def join(self, skew: float) -> None:
        self.joined += 1
        self.runners.append(Runner(f"pod-{self.joined}", skew))

    def report(self, runner: Runner, *, comes: bool = True, answered: bool = True, takes: float = 0.0) -> None:
        """The runner reports. Each way may take time, and the report or its answer may be lost."""
        sent = self.now + runner.skew
        paced = runner.pacing.told(sent)
        built = ReportBuilder().with_(pod_uid=runner.name, usage=Usage(requests=runner.used)).build()
        self.now += takes
        if comes:
            said = built.model_copy(update={"paced": paced})
            given = self.leases.renew(runner.name, QUEUE, Rate(self.rate), len(self.runners), said, self.now)
            self.now += takes
            if answered:
                runner.pacing.lease(given, sent, self.now + runner.skew)

    def end(self, runner: Runner, *, told: bool) -> None:
        """The runner ends; without a word, the operator is told later that its Pod is gone."""
        self.runners.remove(runner)
        if told:
            built = ReportBuilder().with_(pod_uid=runner.name, usage=Usage(requests=runner.used)).build()
            said = built.model_copy(update={"paced": runner.pacing.told(self.now + runner.skew)})
            self.leases.end(runner.name, self.now, said)
        else:
            self.leases.end(runner.name, self.now)

    @property
    def sum(self) -> float:
        return sum(runner.rate(self.now) for runner in self.runners)

    def round(self) -> None:
        """Everybody wants all it can get, and reports."""
        self.now += 2
        for each in self.runners:
            each.ask(self.now)
            each.pacing.take(10**9, 0, self.now + each.skew)
            each.pacing.waited()
            self.report(each)


FAULTS = ["lost", "unanswered", "slow", "end", "vanish", "restart", "wait"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["report", "quiet"] * 3 + ["round"] * 3 + ["join"] * 2 + FAULTS),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.3, 2.0, 7.0, 27.0]),
    ),
    min_size=25,
    max_size=60,
)


@given(rate=st.sampled_from([0.5, 10.0, 120.0]), few=st.sampled_from([0, 100]), steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_happens_all_together_never_hold_more_than_the_rate(
    rate: float, few: int, steps: list[tuple[str, int, float]]
) -> None:
    with patch.object(sharing_module, "_FEW", few):
        play(rate, steps)


def play(rate: float, steps: list[tuple[str, int, float]]) -> None:
    """The story, and then quiet times; they end as soon as all have the same."""
    world = World(rate)
    for skew in (0, 10, -1e6):
        world.join(skew)
    for what, which, seconds in steps:
        runner = world.runners[which % len(world.runners)] if world.runners else None
        world.now += seconds
        if what == "join" and len(world.runners) < 4:
            world.join(skew=which * 1e5)
        elif what == "round":
            world.round()
        elif what == "restart":
            world.leases = Leases(world.now)
        elif runner is not None:
            if what in ("end", "vanish"):
                world.end(runner, told=what == "end")
            elif what != "wait":
                if what != "quiet":
                    runner.ask(world.now)
                slow = seconds if what == "slow" else 0.0
                world.report(runner, comes=what != "lost", answered=what != "unanswered", takes=slow)
        assert world.sum <= rate * (1 + 1e-9)
    for _ in range(2000):  # all is well again; what those owe who have ended takes its time
        world.round()
        assert world.sum <= rate * (1 + 1e-9)
        parts = [runner.rate(world.now) for runner in world.runners]
        if parts == pytest.approx([rate / max(1, len(parts))] * len(parts)):
            return
    raise AssertionError(f"the parts are not even: {parts}")


@pytest.mark.parametrize("calls", [1, 3])
def test_many_short_runs_ask_no_more_than_the_rate(calls: int) -> None:
    """Ten at once, each of which makes its calls as soon as it may, and ends."""
    world, times = World(60), []
    for tick in range(3000):
        world.now = tick / 5
        while len(world.runners) < 10:
            world.join(skew=len(world.runners))
        for runner in list(world.runners):
            if tick % 10 == 0:
                world.report(runner)
            if runner.pacing.seconds(world.now + runner.skew) == 0:
                runner.used += 1
                runner.pacing.take(runner.used, 0, world.now + runner.skew)
                times.append(world.now)
            if runner.used == calls:
                world.end(runner, told=True)
    assert 0.5 * 600 < len(times) <= 600 + 10
    most = max(sum(start <= time < start + 60 for time in times) for start in times)
    assert most <= 60 + 10
