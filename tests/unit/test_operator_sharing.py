"""Rates that are shared: who gets how much, and that all together never hold more than there is."""

from math import inf

import pytest

from crewrun_api.queue import QueueSpec
from crewrun_api.report import Lease, Paced
from crewrun_operator.leases import Leases, Rate, rate_of
from crewrun_operator.sharing import LEASE_SECONDS, Sharing, Word, water_level
from tests.unit.builders import ReportBuilder

QUEUE = ("team-a", "shared")

#: A rate, what each would like, and up to what that is met and what is left over for each.
LEVELS: list[tuple[float, list[float], tuple[float, float]]] = [
    (60, [], (inf, 60)),
    (60, [10, 20], (inf, 15)),
    (60, [30, 30], (inf, 0)),
    (60, [inf, inf, inf], (20, 0)),
    (60, [10, inf, inf], (25, 0)),
    (60, [inf, 10, 4], (46, 0)),
    (60, [50, 50, 5], (27.5, 0)),
    (0, [10, inf], (0, 0)),
]


@pytest.mark.parametrize(("rate", "demands", "want"), LEVELS)
def test_small_demands_are_met_and_the_rest_is_even(
    rate: float, demands: list[float], want: tuple[float, float]
) -> None:
    assert water_level(rate, demands) == pytest.approx(want)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (None, None),
        (QueueSpec(), None),
        (QueueSpec(requests_per_minute=60), Rate(60, None)),
        (QueueSpec(tokens_per_minute=90_000), Rate(None, 90_000)),
    ],
)
def test_a_queue_has_a_rate_when_its_spec_says_one(spec: QueueSpec | None, want: Rate | None) -> None:
    assert rate_of(spec) == want


def share(rate: float, words: dict[str, Word], rounds: int = 4, start: float = 0) -> dict[str, float]:
    """The parts of these after they have said the same for some rounds, two seconds each, and go by what they get."""
    sharing, parts = Sharing(rate), dict.fromkeys(words, 0.0)
    for number in range(rounds):
        for who, word in words.items():
            said = Word(parts[who], LEASE_SECONDS, word.used * number, word.waited, word.owed)
            parts[who] = sharing.renew(who, said, start + 2 * number)
    return parts


def test_one_alone_has_the_whole_rate() -> None:
    assert share(60, {"a": Word()}) == {"a": 60}


def test_those_who_all_wait_have_the_same() -> None:
    assert share(60, dict.fromkeys("abcd", Word(waited=True))) == pytest.approx(dict.fromkeys("abcd", 15))


def test_who_uses_nothing_keeps_a_little_and_the_rest_is_for_who_waits() -> None:
    assert share(60, {"a": Word(), "b": Word(), "c": Word(waited=True)}) == pytest.approx({"a": 2, "b": 2, "c": 56})


def test_who_uses_some_gets_a_quarter_more_than_that() -> None:
    """Ten requests a minute is one each six seconds."""
    parts = share(60, {"a": Word(used=1 / 3), "b": Word(waited=True)}, rounds=200)
    assert parts["a"] == pytest.approx(3 + 10 * 1.25, rel=0.05)
    assert sum(parts.values()) == pytest.approx(60)


def test_a_part_that_is_taken_back_is_for_others_when_its_holder_says_so() -> None:
    sharing = Sharing(60)
    assert sharing.renew("a", Word(), 0) == 60
    assert sharing.renew("b", Word(), 1) == 0, "a has it all"
    assert sharing.renew("a", Word(60, 30, waited=True), 2) == 30
    assert sharing.renew("b", Word(0, 30, waited=True), 2.5) == 0, "a may not have heard"
    assert sharing.renew("a", Word(60, 28, waited=True), 4) == 30, "indeed"
    assert sharing.renew("b", Word(0, 30, waited=True), 4.5) == 0
    assert sharing.renew("a", Word(30, 30, waited=True), 6) == 30
    assert sharing.renew("b", Word(0, 30, waited=True), 6.5) == 30


def test_the_part_of_one_who_is_not_heard_of_is_free_when_its_lease_has_ended() -> None:
    sharing = Sharing(60)
    sharing.renew("a", Word(), 0)
    assert sharing.renew("b", Word(), LEASE_SECONDS - 1) == 0
    assert sharing.renew("b", Word(), LEASE_SECONDS + 1) == 60


#: What one owes at its end, by its last word or later, and after how many seconds the other one has the whole rate.
DEBTS: list[tuple[float, float | None, int]] = [(0, None, 0), (2, None, 4), (2, 0, 0), (0, 5, 10), (1e9, None, 120)]


@pytest.mark.parametrize(("owed", "last", "want"), DEBTS)
def test_who_ends_gives_back_its_part_when_its_debt_is_paid(owed: float, last: float | None, want: int) -> None:
    sharing, parts = Sharing(60), {"a": 0.0, "b": 0.0}
    for now in range(0, 12, 2):
        for who in parts:
            parts[who] = sharing.renew(who, Word(parts[who], 30, 0, True, owed), now)
    assert parts == {"a": 30, "b": 30}
    sharing.leave("a", 10, last)
    found = {}
    for now in range(10, 140):
        parts["b"] = sharing.renew("b", Word(parts["b"], 30, 0, True), now)
        found.setdefault(round(parts["b"]), now - 10)
    assert found[60] == want
    assert list(found) == ([30, 60] if want else [60])


def test_who_comes_pays_the_debt_of_one_that_has_ended_before_it_begins() -> None:
    sharing = Sharing(60)
    sharing.renew("a", Word(), 0)
    sharing.leave("a", 0, 5)
    assert [sharing.renew("b", Word(waited=True), now) for now in (1, 3, 4.9, 5.1)] == [0, 0, 0, 60]


def test_what_one_says_to_go_by_counts_for_no_more_than_it_was_given() -> None:
    sharing = Sharing(60)
    sharing.renew("a", Word(waited=True), 0)
    sharing.renew("b", Word(10**6, 10**6, waited=True), 0)
    assert sharing.renew("a", Word(60, 30, waited=True), 2) == 30
    sharing.renew("b", Word(10**6, 10**6, waited=True), 3)
    assert sharing.renew("a", Word(30, 30, waited=True), 4) == 30
    assert sharing.renew("b", Word(10**6, 10**6, waited=True), 5) == 30


def renewed(leases: Leases, pod: str, paced: Paced | None, now: float, rate: Rate, running: int = 4) -> Lease:
    said = ReportBuilder().with_(pod_uid=pod).build().model_copy(update={"paced": paced})
    return leases.renew(pod, QUEUE, rate, running, said, now)


def test_after_a_start_what_runners_hold_is_renewed_and_nothing_more() -> None:
    rate, leases = Rate(60), Leases(1000)
    held = Paced(requests_per_minute=20, seconds=25, requests_waited=True)
    assert renewed(leases, "a", held, 1001, rate).requests_per_minute == 20
    assert renewed(leases, "b", None, 1002, rate).requests_per_minute == 0, "others may hold the rest"
    assert renewed(leases, "c", held, 1003, rate).requests_per_minute == 20
    assert renewed(leases, "d", held, 1004, rate).requests_per_minute == 15, "now all that run have spoken"
    assert renewed(leases, "a", held, 1005, rate).requests_per_minute == 15
    assert renewed(leases, "b", None, 1006, rate).requests_per_minute == 0, "a has not said that it heard"


def test_after_the_length_of_a_lease_nothing_unknown_is_out() -> None:
    leases = Leases(1000)
    assert renewed(leases, "a", None, 1029, Rate(60), running=2).requests_per_minute == 0
    assert renewed(leases, "a", None, 1031, Rate(60), running=2).requests_per_minute == 60


def test_a_rate_of_tokens_is_shared_alike_and_what_is_not_bounded_is_absent() -> None:
    leases, rate = Leases(-100), Rate(None, 90_000)
    given = renewed(leases, "a", None, 0, rate)
    assert (given.requests_per_minute, given.tokens_per_minute, given.seconds) == (None, 90_000, LEASE_SECONDS)
    given = renewed(leases, "a", None, 2, Rate(5, None))
    assert (given.requests_per_minute, given.tokens_per_minute) == (5, None)


def test_a_queue_is_forgotten_when_its_last_runner_has_ended_and_not_before() -> None:
    leases = Leases(-100)
    for pod in "ab":
        renewed(leases, pod, None, 0, Rate(60))
    for pod, want in (("a", {QUEUE}), ("b", set()), ("b", set())):
        leases.end(pod, 1000)  # nothing was heard of them for long
        assert set(leases._queues) == want
