"""The most that a call can cost: never less than it did."""

from types import SimpleNamespace
from typing import Any

import pytest

from crewrun_runner.bound import most_tokens

RATIO, UNKNOWN = 0.85, 8192


def llm(window: int | None = 128_000, **fields: Any) -> SimpleNamespace:
    """What CrewAI gives as the size of a window is rounded down after it took the ratio of it."""
    size = {} if window is None else {"get_context_window_size": lambda: int(window * RATIO)}
    return SimpleNamespace(**size, **fields)


def answer(model: object) -> int:
    return most_tokens([], [], model, RATIO, UNKNOWN)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (llm(max_tokens=500), 500),
        (llm(max_tokens=None, max_completion_tokens=700), 700),
        (llm(max_tokens=500, max_completion_tokens=700), 700),
        (llm(max_output_tokens=900.0), 900),
        (llm(max_tokens=500, n=3), 1500),
        (llm(UNKNOWN, max_tokens=32_000), 32_000),  # a model that CrewAI does not know
        (llm(UNKNOWN, max_tokens=500, max_completion_tokens=700), 700),
        (llm(None, max_tokens=32_000), 32_000),
        (llm(None), UNKNOWN),
        (None, UNKNOWN),
        ("gpt-4o", UNKNOWN),
    ],
)
def test_an_answer_is_bounded_by_its_cap_else_by_the_window(model: object, most: int) -> None:
    assert answer(model) == most


@pytest.mark.parametrize("window", [8192, 16_385, 128_000, 200_000, 272_000, 1_047_576, 1_048_576, 10_000_000])
def test_a_window_is_at_least_as_large_as_the_model_says(window: int) -> None:
    assert window <= answer(llm(window)) <= window + 2
    assert answer(llm(window, max_tokens=10**9)) <= max(window + 2, 10**9 if window <= UNKNOWN else 0)


def test_a_prompt_is_bounded_by_its_bytes() -> None:
    messages = [{"role": "user", "content": "日本語😀" * 100}, {"role": "tool", "content": [{"text": "a\ud800"}]}]
    schema = {"function": {"parameters": {"x": "y" * 1000}}}
    tokens = most_tokens(messages, [schema], llm(max_tokens=10), RATIO, UNKNOWN)
    assert 100 * 13 + 2 * 64 + 1000 + 64 + 10 <= tokens <= 100 * 13 + 400 + 1000 + 10
