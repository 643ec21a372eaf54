"""Money: exact in whole micro-USD, and what nobody knows is never 0."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crewrun_api.allowance import Spent
from crewrun_api.money import micro_usd, usd
from crewrun_api.outcome import MOST_COUNT, ModelUsage, TaskRecord, Usage
from crewrun_api.reasons import TaskState

MOST = 10**15


@pytest.mark.parametrize(
    ("amount", "want_micro"),
    [
        ("0", 0),
        ("1", 1_000_000),
        ("0.25", 250_000),
        ("0.006310", 6310),
        ("12.000001", 12_000_001),
        ("0.0000001", 1),  # never less than it was
        ("0.0000010", 1),
        ("0.0000011", 2),
        ("999999999.999999", 999_999_999_999_999),
        ("999999999999.999999999", 10**18),
    ],
)
def test_an_amount_of_usd_is_so_many_micro_usd(amount: str, want_micro: int) -> None:
    assert micro_usd(amount) == want_micro


@pytest.mark.parametrize("amount", ["", "x", "1,5", "NaN", "sNaN", "Infinity", "-inf", "1e999999", "0x1", "$1"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match=r"NaN|is not an amount of USD"):
        micro_usd(amount)


@pytest.mark.parametrize(
    ("micro", "want_usd"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (6310, "0.006310"),
        (999_999, "0.999999"),
        (1_000_000, "1.000000"),
        (12_000_001, "12.000001"),
        (MOST, "1000000000.000000"),
    ],
)
def test_an_amount_is_shown_with_six_places(micro: int, want_usd: str) -> None:
    assert usd(micro) == want_usd


@settings(deadline=None)
@given(st.integers(0, MOST))
def test_no_micro_usd_is_lost_on_the_way(micro: int) -> None:
    assert micro_usd(usd(micro)) == micro


@settings(deadline=None)
@given(st.decimals(0, 10**6, places=9), st.decimals(0, 10**6, places=9))
def test_rounding_makes_an_amount_no_smaller(one: Decimal, other: Decimal) -> None:
    assert Decimal(micro_usd(f"{one:f}")) >= one * 1_000_000 > Decimal(micro_usd(f"{one:f}")) - 1
    assert micro_usd(f"{one:f}") <= micro_usd(f"{one + other:f}")


COUNTS = st.integers(0, MOST)
PRICED = {"cost_usd": st.just(0) | COUNTS, "unpriced_requests": st.just(0) | COUNTS}
MODELS = st.builds(
    ModelUsage,
    model=st.text(max_size=9),
    requests=COUNTS,
    prompt_tokens=COUNTS,
    price_key=st.none() | st.just("openai/gpt"),
    price_date=st.none() | st.just("2026-01-01"),
    **PRICED,
)
USAGES = st.builds(
    Usage,
    requests=COUNTS,
    incomplete=st.booleans(),
    reserved_cost_usd=COUNTS,
    reserved_tokens=COUNTS,
    by_model=st.lists(MODELS, max_size=2),
    **PRICED,
)
TASKS = st.builds(
    TaskRecord,
    name=st.text(max_size=9),
    state=st.sampled_from(TaskState),
    models=st.lists(st.text(max_size=5), max_size=2),
    **PRICED,
)
WAYS: dict[str, dict[str, Any]] = {
    "with every field": {"by_alias": True},
    "as a record": {"by_alias": True, "exclude_none": True, "exclude_defaults": True},
    "as a status": {"by_alias": True, "exclude_none": True},
    "by Python's names": {},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@settings(deadline=None)
@given(document=MODELS | USAGES | TASKS)
def test_a_document_comes_back_as_it_was(way: dict[str, Any], document: ModelUsage | Usage | TaskRecord) -> None:
    assert type(document).model_validate_json(document.model_dump_json(**way)) == document
    assert type(document).model_validate(document.model_dump(**way)) == document
    assert type(document).model_validate(document.model_dump(mode="json", **way)) == document


@pytest.mark.parametrize(
    ("cost", "unpriced", "want_cost"),
    [
        pytest.param(0, 0, "0.000000", id="nothing was used"),
        pytest.param(6310, 0, "0.006310", id="all is known"),
        pytest.param(6310, 2, "0.006310", id="some is known"),
        pytest.param(0, 2, "unknown", id="nothing is known"),
    ],
)
@pytest.mark.parametrize("by_alias", [True, False])
def test_what_nobody_knows_is_not_nothing(cost: int, unpriced: int, want_cost: str, by_alias: bool) -> None:
    usage = ModelUsage(model="m", cost_usd=cost, unpriced_requests=unpriced)
    whole = Usage(cost_usd=cost, unpriced_requests=unpriced, by_model=[usage])
    task = TaskRecord(name="t", state=TaskState.RUNNING, cost_usd=cost, unpriced_requests=unpriced)
    name = "costUSD" if by_alias else "cost_usd"
    models = "byModel" if by_alias else "by_model"
    for document in (usage, whole, task):
        assert document.model_dump(mode="json", by_alias=by_alias)[name] == want_cost
    assert whole.model_dump(mode="json", by_alias=by_alias)[models][0][name] == want_cost


@settings(deadline=None)
@given(COUNTS, st.integers(1, MOST))
def test_unknown_stays_so_however_often_it_is_read_and_written(cost: int, unpriced: int) -> None:
    usage = Usage(cost_usd=cost, unpriced_requests=unpriced)
    for _ in range(3):
        text = usage.model_dump_json(by_alias=True, exclude_defaults=True)
        assert '"costUSD":"0.000000"' not in text
        assert ('"costUSD":"unknown"' in text) == (cost == 0)
        usage = Usage.model_validate_json(text)
    assert (usage.cost_usd, usage.unpriced_requests) == (cost, unpriced)


def test_a_figure_of_none_is_left_out_of_a_record() -> None:
    assert Usage().model_dump_json(by_alias=True, exclude_defaults=True) == "{}"


@pytest.mark.parametrize(
    "cost", ["-0.000001", "1000000000.000001", "9" * 5000, "1e999999", "Unknown", "NaN", "1e9999999999", None, [], {}]
)
def test_a_cost_that_nobody_can_have_is_refused(cost: object) -> None:
    with pytest.raises(ValidationError):
        Usage.model_validate({"costUSD": cost})


@pytest.mark.parametrize(
    "amount", ["1e999990", "1e5", "-1", "NaN", "Infinity", "1_000", "", "1" * 13, "0.0000000001", " 1"]
)
def test_a_number_that_is_no_decimal_is_refused_before_it_is_worked_out(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount of USD"):
        micro_usd(amount)


def test_what_may_be_gone_of_a_budget_is_never_more_than_can_be_told() -> None:
    most = Usage(requests=MOST_COUNT, reserved_requests=1, total_tokens=MOST_COUNT, reserved_tokens=MOST_COUNT)
    assert Spent.of(most) == Spent(requests=MOST_COUNT, tokens=MOST_COUNT)
