"""Who is given a place, read from what runs and queues say themselves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.queue import Sums, Window
from crewrun_operator.queue_object import choose_queue, queue_object
from crewrun_operator.queue_state import Hold
from crewrun_operator.queues import Queues
from crewrun_operator.times import stamp
from crewrun_operator.windows import window_end, window_start
from tests.unit.builders import NAMESPACE, NOON, QueueBuilder, RunBuilder

LANE = (NAMESPACE, "lane")
WAITS: dict[str, Any] = {"phase": "Queued"}
RUNS: dict[str, Any] = {"phase": "Running", "attempts": [{"number": 1}]}
BACKS_OFF: dict[str, Any] = {"phase": "BackingOff", "attempts": [{"number": 1, "outcome": "Failed"}]}
ENDED: dict[str, Any] = {"phase": "Succeeded", "attempts": [{"number": 1, "outcome": "Succeeded"}]}
_versions = iter(range(2, 1_000_000))


def run(name: str, status: dict[str, Any], age: int = 0, labels: dict[str, str] | None = None, **spec: Any) -> Any:
    created = stamp(NOON - timedelta(seconds=age))
    builder = RunBuilder().metadata(name=name, uid=f"uid-of-{name}", creationTimestamp=created, labels=labels or {})
    queue = {"queue": "lane"} if status else {}
    return {**builder.spec(**spec).at(next(_versions)).build(), "status": {**queue, **status}}


def queues(*runs: Any, **spec: Any) -> Queues:
    them = Queues()
    put(them, **spec)
    for each in runs:
        them.put_run(each)
    return them


def put(them: Queues, **spec: Any) -> None:
    version = next(_versions)
    them.put_object(queue_object(QueueBuilder(**spec).metadata(generation=version).at(version).build()))


def admitted(them: Queues, now: datetime = NOON) -> list[str]:
    them.stir()
    return [name for _, name in them.admit(now) or ()]


ADMITTED: dict[str, tuple[dict[str, Any], list[Any], list[str]]] = {
    "who waits longest": ({"maxConcurrentRuns": 1}, [run("b", WAITS, 5), run("a", WAITS, 9)], ["a"]),
    "a point of priority is a minute": (
        {"maxConcurrentRuns": 1},
        [run("old", WAITS, 59), run("urgent", WAITS, 0, priority=1)],
        ["urgent"],
    ),
    "and nobody starves": (
        {"maxConcurrentRuns": 1},
        [run("old", WAITS, 6001), run("urgent", WAITS, 0, priority=100)],
        ["old"],
    ),
    "as many as there are places": (
        {"maxConcurrentRuns": 3},
        [run("r", RUNS), *(run(name, WAITS) for name in "abc")],
        ["a", "b"],
    ),
    "a run that waits for its backoff holds none": (
        {"maxConcurrentRuns": 1},
        [run("r", BACKS_OFF), run("a", WAITS)],
        ["a"],
    ),
    "nor one that has ended": ({"maxConcurrentRuns": 1}, [run("r", ENDED), run("a", WAITS)], ["a"]),
    "nor does a run wait that is suspended": ({"maxConcurrentRuns": 1}, [run("a", WAITS, suspend=True)], []),
    "nor one that is cancelled": ({}, [run("a", WAITS, cancel=True)], []),
    "without a bound all": ({}, [run(name, WAITS) for name in "abc"], ["a", "b", "c"]),
    "a rerun waits since it was asked for": (
        {"maxConcurrentRuns": 1},
        [run("again", {**WAITS, "orderTime": stamp(NOON)}, 900), run("b", WAITS, 1)],
        ["b"],
    ),
    "with fair shares the crew that has the fewest": (
        {"maxConcurrentRuns": 2, "ordering": "FairShare"},
        [run("r", RUNS), run("a", WAITS, 9), run("b", WAITS, 1, crewRef={"name": "sales"})],
        ["b"],
    ),
    "a label may say what a share is": (
        {"maxConcurrentRuns": 2, "ordering": "FairShare", "fairShareBy": "team"},
        [run("r", RUNS, labels={"team": "red"}), run("a", WAITS, 9, {"team": "red"}), run("b", WAITS, 1)],
        ["b"],
    ),
    "nobody where the queue is held": ({"stopPolicy": "Hold"}, [run("a", WAITS)], []),
    "nobody where it says what nobody knows": ({"future": True}, [run("a", WAITS)], []),
}


@pytest.mark.parametrize("name", ADMITTED)
def test_a_place_is_given_to(name: str) -> None:
    spec, runs, want_names = ADMITTED[name]
    them = queues(*runs, **spec)
    assert admitted(them) == want_names
    assert admitted(them) == [], "given once"
    assert admitted(queues(*reversed(runs), **spec)) == want_names, "whatever was seen first"


def test_a_place_that_was_given_is_held_until_the_run_gives_it_back() -> None:
    them = queues(run("a", WAITS, 2), run("b", WAITS, 1), maxConcurrentRuns=1)
    assert admitted(them) == ["a"]
    place = them.place("uid-of-a")
    assert place is not None and place.granted
    them.put_run(run("a", WAITS, 2, labels={"edited": "meanwhile"}))
    assert admitted(them) == []
    them.put_run(run("a", RUNS))
    assert (admitted(them), them.place("uid-of-a")) == ([], None)
    them.put_run(run("a", BACKS_OFF))
    assert admitted(them) == ["b"]


GIVEN_BACK: dict[str, Any] = {
    "it has ended": run("a", ENDED, 9),
    "it is suspended before it began": run("a", WAITS, 9, suspend=True),
    "it is refused now": run("a", {"phase": "Pending"}, 9),
    "it is deleted": None,
    "it is another queue's": run("a", {**WAITS, "queue": "other"}, 9),
}


@pytest.mark.parametrize("name", GIVEN_BACK)
def test_a_place_is_free_when(name: str) -> None:
    them = queues(run("a", WAITS, 9), run("b", WAITS), maxConcurrentRuns=1)
    assert admitted(them) == ["a"]
    later = GIVEN_BACK[name]
    if later is None:
        them.drop_run("uid-of-a")
    else:
        them.put_run(later)
    assert admitted(them) == ["b"]


def test_a_run_may_wait_before_its_status_says_so() -> None:
    new = run("new", {})
    them = queues(run("r", RUNS), maxConcurrentRuns=1)
    them.put_run(new)
    them.join(new, "lane", NOON, NOON)
    assert admitted(them) == []
    place = them.place("uid-of-new")
    assert place is not None and (place.hold, place.ahead) == (Hold.FULL, 0)
    them.put_run(run("r", ENDED))
    assert admitted(them) == ["new"]
    them.put_run(run("new", {}))  # somebody has edited it: what it asked for is asked again
    assert them.place("uid-of-new") is None


def test_more_places_are_given_at_once_and_fewer_take_none_away() -> None:
    them = queues(*(run(name, WAITS) for name in "abcd"), maxConcurrentRuns=1)
    assert admitted(them) == ["a"]
    put(them, maxConcurrentRuns=3)
    assert admitted(them) == ["b", "c"]
    put(them, maxConcurrentRuns=1)
    them.drop_run("uid-of-a")
    assert admitted(them) == []
    queue = them.get(LANE)
    assert queue is not None and (queue.running, queue.pending) == (2, 1)


def test_shares_count_what_runs_when_the_ordering_is_changed() -> None:
    sales = {"crewRef": {"name": "sales"}}
    them = queues(run("r", RUNS), run("a", WAITS, 9), run("b", WAITS, 1, **sales), maxConcurrentRuns=1)
    put(them, maxConcurrentRuns=2, ordering="FairShare")
    assert admitted(them) == ["b"]


def test_runs_wait_for_a_queue_that_is_not_there_and_are_admitted_when_it_comes_back() -> None:
    them = queues(run("a", WAITS), run("r", RUNS), maxConcurrentRuns=2)
    them.drop_object(LANE)
    assert admitted(them) == []
    place = them.place("uid-of-a")
    assert place is not None and place.hold is Hold.MISSING
    put(them, maxConcurrentRuns=2)
    assert admitted(them) == ["a"]
    them.put_run(run("a", {"phase": "Cancelled"}))
    them.drop_object(LANE)
    assert them.place("uid-of-a") is None
    for name in "ar":
        them.drop_run(f"uid-of-{name}")
    them.drop_object(LANE)
    assert not them._queues and not them._of, "names come from people"


def spending(name: str, status: dict[str, Any], usd: str, tokens: int, since: datetime = NOON) -> Any:
    window = {"start": stamp(window_start(Window.HOUR, since)), "costUSD": usd, "totalTokens": tokens}
    return run(name, {**status, "attemptCount": 1, "window": window})


BUDGETS: dict[str, tuple[dict[str, Any], str, int, bool]] = {
    "less than the cap": ({"maxCostUSD": "0.50"}, "0.499999", 900, True),
    "the cap": ({"maxCostUSD": "0.50"}, "0.500000", 900, False),
    "fewer tokens": ({"maxTokens": 901}, "7.000000", 900, True),
    "as many tokens": ({"maxTokens": 900}, "unknown", 900, False),
    "either of the two": ({"maxCostUSD": "9", "maxTokens": 900}, "0.100000", 900, False),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_a_window_is_spent_by(name: str) -> None:
    caps, usd, tokens, want_admitted = BUDGETS[name]
    them = queues(spending("r", ENDED, usd, tokens), run("a", WAITS), budget={"window": "Hour", **caps})
    assert admitted(them) == (["a"] if want_admitted else [])
    if not want_admitted:
        assert admitted(them, NOON + timedelta(minutes=59)) == []
        assert admitted(them, NOON + timedelta(minutes=60)) == ["a"], "the next window"


def test_what_is_spent_while_it_runs_counts_and_a_deleted_run_has_spent_too() -> None:
    them = queues(spending("r", RUNS, "0.300000", 30), budget={"window": "Hour", "maxCostUSD": "0.5"})
    them.put_run(spending("r", RUNS, "0.400000", 40))
    them.put_run(spending("s", ENDED, "0.100000", 10))
    them.put_run(spending("past", ENDED, "5.000000", 10, NOON - timedelta(hours=1)))
    them.drop_run("uid-of-s")
    them.put_run(run("a", WAITS))
    assert admitted(them) == []
    queue = them.get(LANE)
    assert queue is not None
    assert queue.sums(NOON) == (
        Sums(admitted=3, spent_usd=500_000, spent_tokens=50),
        Sums(admitted=1, spent_usd=100_000, spent_tokens=10),
    )


def test_a_new_process_believes_the_status_of_the_queue_about_runs_that_are_gone() -> None:
    told = {"admitted": 9, "spentUSD": "0.500000", "spentTokens": 50, "windowStart": stamp(NOON)}
    them = Queues()
    budget = {"window": "Hour", "maxCostUSD": "0.5"}
    them.put_object(queue_object({**QueueBuilder(budget=budget).build(), "status": told}))
    them.put_run(spending("r", ENDED, "0.300000", 30))
    them.put_run(run("a", WAITS))
    assert admitted(them) == []
    queue = them.get(LANE)
    assert queue is not None and queue.sums(NOON)[1] == Sums(admitted=8, spent_usd=200_000, spent_tokens=20)


DAY = datetime(2026, 2, 28, 23, 59, 59, 5, UTC)
WINDOWS = {
    Window.HOUR: ("2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"),
    Window.DAY: ("2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
    Window.MONTH: ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
}


@pytest.mark.parametrize("window", Window)
def test_a_window_begins_and_ends_in_utc(window: Window) -> None:
    assert (stamp(window_start(window, DAY)), stamp(window_end(window, DAY))) == WINDOWS[window]
    assert window_start(window, window_end(window, DAY)) == window_end(window, DAY)


def test_the_newest_default_is_the_namespaces() -> None:
    old, new = QueueBuilder("old"), QueueBuilder("new").metadata(creationTimestamp=stamp(NOON + timedelta(days=1)))
    plain = QueueBuilder("plain", default=False).metadata(creationTimestamp=stamp(NOON + timedelta(days=2)))
    them = {name: queue_object(each.build()) for name, each in (("old", old), ("new", new), ("plain", plain))}
    assert choose_queue(None, them) is them["new"]
    assert choose_queue("plain", them) is them["plain"]
    assert choose_queue("none", them) is None and choose_queue(None, {}) is None


STATUSES = {"new": {}, "waits": WAITS, "runs": RUNS, "backs off": BACKS_OFF, "ended": ENDED}


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "join", "drop", "admit", "places", "shares", "restart"]),
            st.sampled_from("abcdef"),
            st.sampled_from(sorted(STATUSES)),
            st.integers(0, 3),
        ),
        max_size=50,
    )
)
def test_never_more_are_given_than_there_are_places(events: list[tuple[str, str, str, int]]) -> None:
    """Whoever records an attempt was given a place before. A restart forgets what is not recorded."""
    them, runs, most = queues(maxConcurrentRuns=2), dict[str, Any](), 2
    for event, name, status, number in events:
        place = them.place(f"uid-of-{name}")
        match event:
            case "put" if status != "runs" or (place and place.granted):
                runs[name] = run(name, STATUSES[status], number, crewRef={"name": f"crew-{number}"})
                them.put_run(runs[name])
            case "join" if name in runs and not runs[name]["status"].get("queue"):
                them.join(runs[name], "lane", NOON, NOON)
            case "drop":
                runs.pop(name, None)
                them.drop_run(f"uid-of-{name}")
            case "places":
                most = max(most, 1 + number)
                put(them, maxConcurrentRuns=most)
            case "shares":
                put(them, maxConcurrentRuns=most, ordering=["FIFO", "FairShare"][number % 2])
            case "restart":
                them = queues(*runs.values(), maxConcurrentRuns=most)
        admitted(them)
        queue = them.get(LANE)
        assert queue is not None and queue.running <= most
        assert not (queue.pending and queue.running < most), "somebody waits beside a free place"
        open_attempts = sum(STATUSES["runs"].items() <= each["status"].items() for each in runs.values())
        assert open_attempts <= queue.running
