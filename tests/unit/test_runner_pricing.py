"""What an answer costs: the run's own prices first, then the list, and never more than was reserved for it."""

import re
import threading
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewrun_api import settings
from crewrun_runner import pricing
from crewrun_runner.pricing import OWN_PRICE, PRICE_LIST, OwnPrice, Prices, micro_cost, most_micro
from crewrun_runner.tokens import Tokens

ROOT = Path(__file__).resolve().parents[2]
MILLION = 1_000_000


def own(input_price: str = "2", output: str = "10", cached: str | None = None) -> settings.Price:
    return settings.Price(
        input_per_million_usd=input_price, output_per_million_usd=output, cached_input_per_million_usd=cached
    )


class Library:
    """Takes the place of genai-prices: USD for a million tokens, by provider and model."""

    def __init__(self, **entries: tuple[str, str]) -> None:
        self.entries = entries
        self.asked: list[tuple[str, str]] = []
        self.used: list[Any] = []
        self.data_snapshot = SimpleNamespace(get_snapshot=lambda: self)

    def Usage(self, **counts: int) -> SimpleNamespace:
        return SimpleNamespace(**counts)

    def find_provider_model(self, model: str, provider: object, provider_id: str, url: object) -> tuple[Any, Any]:
        self.asked.append((provider_id, model))
        if model not in self.entries:
            raise LookupError(model)
        found = SimpleNamespace(id=provider_id)
        return found, SimpleNamespace(id=f"{model}-entry", calc_price=self._price_of(model))

    def _price_of(self, model: str) -> Any:
        plain, output = (Decimal(price) for price in self.entries[model])

        def calc_price(used: Any, provider: object, *, genai_request_timestamp: datetime) -> SimpleNamespace:
            self.used.append(used)
            uncached = used.input_tokens - used.cache_read_tokens - used.cache_write_tokens
            whole = uncached * plain + used.cache_read_tokens * plain / 10 + used.cache_write_tokens * plain * 5 / 4
            return SimpleNamespace(total_price=(whole + used.output_tokens * output) / MILLION)

        return calc_price


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library(gpt=("2.5", "10"), claude=("3", "15"), gemini=("1", "4"), nova=("1", "1"))
    monkeypatch.setattr(pricing, "_list", lambda: made)
    monkeypatch.setattr(pricing, "version", lambda package: PRICE_LIST[0])
    return made


@pytest.mark.parametrize(
    ("price", "tokens", "want_micro"),
    [
        pytest.param(own(), Tokens(), 0, id="nothing"),
        pytest.param(own(), Tokens(MILLION, 0, MILLION), 12_000_000, id="prompt and answer"),
        pytest.param(own(), Tokens(MILLION, MILLION, 0), 2_000_000, id="the cache costs as much when it is not said"),
        pytest.param(own(cached="0.5"), Tokens(MILLION, 400_000, 0), 1_400_000, id="a cache that costs less"),
        pytest.param(own(cached="0"), Tokens(MILLION, MILLION, 0), 0, id="a cache that costs nothing"),
        pytest.param(own(), Tokens(MILLION, 0, 0, written=MILLION), 2_000_000, id="what is written is a prompt"),
        pytest.param(own(), Tokens(0, 0, 100, reasoning=90), 1000, id="reasoning is in the answer"),
        pytest.param(own("0.5", "0"), Tokens(1), 0, id="half goes to the even, down"),
        pytest.param(own("0.5", "0"), Tokens(3), 2, id="half goes to the even, up"),
        pytest.param(own("0.5", "0"), Tokens(5), 2, id="half goes to the even, down again"),
        pytest.param(own("0.51", "0"), Tokens(1), 1, id="more than half goes up"),
        pytest.param(own("0.000000001", "0"), Tokens(1), 0, id="too little to count"),
    ],
)
def test_an_answer_costs_by_the_prices_of_the_run(price: settings.Price, tokens: Tokens, want_micro: int) -> None:
    found = Prices({"m": price}).of("m")
    assert found is not None
    assert (found.key, found.date) == (OWN_PRICE, None) == ("spec.prices", None)
    assert micro_cost(found, tokens) == want_micro


@pytest.mark.parametrize(
    ("named", "model", "want_own"),
    [
        pytest.param("openai/gpt", "openai/gpt", True, id="by its name"),
        pytest.param("gpt", "openai/gpt", True, id="by its name without the provider"),
        pytest.param("gpt", "gpt", True, id="a model without a provider"),
        pytest.param("azure/gpt", "openai/gpt", False, id="another provider's model"),
        pytest.param("other", "openai/gpt", False, id="another model"),
    ],
)
def test_the_prices_of_the_run_go_before_the_list(library: Library, named: str, model: str, want_own: bool) -> None:
    found = Prices({named: own()}).of(model)
    assert found is not None
    assert (found.key == OWN_PRICE) is want_own
    assert bool(library.asked) is not want_own


@pytest.mark.parametrize(
    ("model", "want_asked", "want_key"),
    [
        ("openai/gpt", ("openai", "gpt"), "openai/gpt-entry"),
        ("gpt", ("openai", "gpt"), "openai/gpt-entry"),
        ("OpenAI/gpt", ("openai", "gpt"), "openai/gpt-entry"),
        ("anthropic/claude", ("anthropic", "claude"), "anthropic/claude-entry"),
        ("claude/claude", ("anthropic", "claude"), "anthropic/claude-entry"),
        ("gemini/gemini", ("google", "gemini"), "google/gemini-entry"),
        ("bedrock/nova", ("aws", "nova"), "aws/nova-entry"),
        ("azure_openai/gpt", ("azure", "gpt"), "azure/gpt-entry"),
    ],
)
def test_a_listed_price_says_which_entry_it_is(
    library: Library, model: str, want_asked: tuple[str, str], want_key: str
) -> None:
    found = Prices({}).of(model)
    assert found is not None
    assert library.asked == [want_asked]
    assert (found.key, found.date) == (want_key, PRICE_LIST[1])


def test_a_listed_price_is_asked_for_each_kind_of_token(library: Library) -> None:
    found = Prices({}).of("openai/gpt")
    assert found is not None
    want_micro = 20 * 2.5 + 40 * 0.25 + 40 * 3.125 + 10 * 10
    assert micro_cost(found, Tokens(100, 40, 10, written=40, reasoning=9)) == want_micro
    assert vars(library.used[0]) == {
        "input_tokens": 100,
        "cache_read_tokens": 40,
        "cache_write_tokens": 40,
        "output_tokens": 10,
    }


def test_a_list_of_another_release_has_no_day(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "version", lambda package: "9.9.9")
    found = Prices({}).of("openai/gpt")
    assert found is not None and found.date is None


def test_a_model_that_nobody_knows_has_no_price_and_is_looked_up_once(library: Library) -> None:
    prices = Prices({"other": own()})
    assert [prices.of("openai/unheard-of") for _ in range(3)] == [None] * 3
    assert library.asked == [("openai", "unheard-of")]


def test_a_price_is_known_after_it_was_looked_up(library: Library) -> None:
    prices = Prices({})
    assert prices.known("openai/gpt") is None
    found = prices.of("openai/gpt")
    assert found is not None and prices.known("openai/gpt") is found


def test_prices_are_loaded_aside_and_it_is_told_when_they_are_known(library: Library) -> None:
    prices, loaded = Prices({"own": own()}), threading.Event()
    prices.preload(["openai/gpt", "own"], loaded.set)
    assert loaded.wait(10)
    assert prices.known("openai/gpt") is not None and prices.known("own") is not None


RATES = st.decimals(0, 200, places=4)
COUNTS = st.integers(0, 10**7)


def within(prompt: int, answer: int) -> st.SearchStrategy[Tokens]:
    """Whatever a request can have used that has this bound."""
    return st.integers(0, prompt).flatmap(
        lambda used: st.integers(0, used).flatmap(
            lambda cached: st.builds(
                Tokens, st.just(used), st.just(cached), st.integers(0, answer), st.integers(0, used - cached)
            )
        )
    )


BOUNDED = st.tuples(COUNTS, COUNTS).flatmap(lambda most: st.tuples(st.just(most), within(*most)))


@hypothesis.settings(deadline=None)
@given(RATES, RATES, st.none() | RATES, BOUNDED)
def test_nothing_within_a_bound_costs_more_than_the_bound(
    plain: Decimal, output: Decimal, cached: Decimal | None, bounded: tuple[tuple[int, int], Tokens]
) -> None:
    (prompt, answer), tokens = bounded
    price = Prices({"m": own(str(plain), str(output), None if cached is None else str(cached))}).of("m")
    assert price is not None
    assert most_micro(price, prompt, answer) >= micro_cost(price, tokens)


@hypothesis.settings(deadline=None)
@given(BOUNDED)
def test_nothing_within_a_bound_costs_more_at_a_listed_price(bounded: tuple[tuple[int, int], Tokens]) -> None:
    (prompt, answer), tokens = bounded
    library = Library(gpt=("2.5", "10"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pricing, "_list", lambda: library)
        patch.setattr(pricing, "version", lambda package: PRICE_LIST[0])
        price = Prices({}).of("openai/gpt")
        assert price is not None
        assert most_micro(price, prompt, answer) >= micro_cost(price, tokens)


def test_a_bound_is_rounded_up() -> None:
    assert most_micro(OwnPrice(Decimal("0.1"), Decimal("0.1"), Decimal(0)), 1, 5) == 1


def test_the_day_is_that_of_the_list_which_the_runner_is_locked_to() -> None:
    locked = re.search(r"^genai-prices==(\S+)", (ROOT / "requirements" / "runner.txt").read_text(), re.MULTILINE)
    assert locked is not None and locked[1] == PRICE_LIST[0]
