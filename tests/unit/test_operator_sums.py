"""What a queue has done survives restarts and deletions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.queue import Sums
from crewrun_operator.sums import Ledger, Part

JAN, FEB = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def sums(admitted: int, micro: int = 0, tokens: int = 0) -> Sums:
    return Sums(admitted=admitted, spent_usd=micro, spent_tokens=tokens)


def test_runs_say_their_part_and_only_this_window_is_counted() -> None:
    ledger = Ledger()
    ledger.put("a", Part(2, JAN, 500, 50))
    ledger.put("b", Part(1, FEB, 70, 7))
    assert (ledger.total(JAN), ledger.total(FEB), ledger.total("")) == (sums(3, 500, 50), sums(3, 70, 7), sums(3))
    ledger.put("a", Part(3, FEB, 1, 1))
    assert (ledger.total(JAN), ledger.total(FEB)) == (sums(4), sums(4, 71, 8))


def test_what_a_deleted_run_had_stays() -> None:
    ledger = Ledger()
    ledger.put("a", Part(2, JAN, 500, 50))
    ledger.put("b", Part(1, JAN, 70, 7))
    ledger.drop("a", deleted=True)
    assert (ledger.total(JAN), ledger.deleted(JAN)) == (sums(3, 570, 57), sums(2, 500, 50))


def test_what_a_run_had_that_is_another_queues_does_not() -> None:
    ledger = Ledger()
    ledger.put("a", Part(2, JAN, 500, 50))
    ledger.drop("a", deleted=False)
    assert ledger.total(JAN) == sums(0) and ledger.empty


RECALLS = {
    "nothing was deleted": (sums(3, 570, 57), sums(0), sums(3, 570, 57)),
    "a run was deleted before": (sums(5, 600, 60), sums(2, 30, 3), sums(5, 600, 60)),
    "a run was deleted that nobody saw go": (sums(7, 700, 70), sums(0), sums(7, 700, 70)),
    "runs have done more since the status was written": (sums(1, 100, 10), sums(0), sums(3, 570, 57)),
    "both": (sums(1, 100, 10), sums(1, 10, 1), sums(4, 580, 58)),
}


@pytest.mark.parametrize("name", RECALLS)
def test_a_new_process_knows_what_was_done_when(name: str) -> None:
    told, deleted, want_total = RECALLS[name]
    ledger = Ledger()
    ledger.put("a", Part(2, JAN, 500, 50))
    ledger.put("b", Part(1, JAN, 70, 7))
    ledger.recall(told, deleted, JAN)
    assert ledger.total(JAN) == want_total


def test_a_run_that_goes_while_the_first_lists_are_made_is_not_counted_twice() -> None:
    ledger = Ledger()
    ledger.put("a", Part(2, JAN, 500, 50))
    ledger.drop("a", deleted=True)
    ledger.recall(sums(2, 500, 50), sums(0), JAN)
    assert ledger.total(JAN) == sums(2, 500, 50)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans()),
        max_size=30,
    )
)
def test_a_sum_never_shrinks_whatever_is_deleted_and_whenever_the_process_dies(
    events: list[tuple[str, int, int, bool, bool]],
) -> None:
    ledger, runs, number = Ledger(), dict[str, Part](), 0
    for name, admitted, micro, deleted, restarted in events:
        before = ledger.total(JAN)
        old = runs.get(name, Part(window=JAN))
        runs[name] = Part(old.admitted + admitted, JAN, old.micro_usd + micro, 0)
        ledger.put(f"{name}{number}", runs[name])
        want = sums(before.admitted + admitted, before.spent_usd + micro)
        assert ledger.total(JAN) == want
        if deleted:
            ledger.drop(f"{name}{number}", deleted=True)
            runs.pop(name)
        elif restarted:
            total, gone = ledger.total(JAN), ledger.deleted(JAN)
            ledger = Ledger()
            for its_name, part in runs.items():
                ledger.put(f"{its_name}{number}", part)
            ledger.recall(total, gone, JAN)
        else:
            continue
        assert ledger.total(JAN) == want
