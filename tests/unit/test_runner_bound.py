"""The most that a request can use when it does not say: never less than it does."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_runner.bound import listed_answer, own_limit, prompt_tokens

CATALOG: dict[str, Any] = {
    "gpt": {"max_output_tokens": 16_000, "max_input_tokens": 128_000},
    "azure/gpt": {"max_output_tokens": 32_000},
    "window": {"max_output_tokens": None, "max_input_tokens": 8_000},
    "azure/window": {"max_output_tokens": 900},
    "claude": {"max_input_tokens": 200_000},
    "silent": {"input_cost_per_token": 1e-6},
    "words": {"max_output_tokens": "4096", "max_input_tokens": "many"},
    "broken": "max_output_tokens: 3",
}


@pytest.mark.parametrize(
    ("provider", "model", "want_answer"),
    [
        pytest.param("openai", "gpt", 16_000, id="by its name"),
        pytest.param("azure", "gpt", 32_000, id="the longest of what its names say"),
        pytest.param("bedrock", "eu/gpt", 16_000, id="by the end of its name"),
        pytest.param("openai", "window", 8_000, id="no answer is longer than the window"),
        pytest.param("azure", "window", 900, id="a longest answer goes before a window"),
        pytest.param("anthropic", "claude", 200_000, id="a window alone"),
        pytest.param("openai", "silent", None, id="an entry that says neither"),
        pytest.param("openai", "words", None, id="no numbers"),
        pytest.param("openai", "broken", None, id="no entry"),
        pytest.param("openai", "unheard-of", None, id="nobody knows it"),
        pytest.param("", "", None, id="no name"),
    ],
)
def test_an_answer_is_bounded_by_what_is_known_of_the_model(provider: str, model: str, want_answer: int | None) -> None:
    assert listed_answer(CATALOG, provider, model) == want_answer


@pytest.mark.parametrize(
    ("llm", "want_limit"),
    [
        (SimpleNamespace(max_tokens=500), 500),
        (SimpleNamespace(max_tokens=None, max_completion_tokens=700), 700),
        (SimpleNamespace(max_tokens=500, max_completion_tokens=700), 700),
        (SimpleNamespace(max_output_tokens=900.0), 900),
        (SimpleNamespace(max_tokens=0), None),
        (SimpleNamespace(max_tokens=None), None),
        (None, None),
        ("gpt-4o", None),
    ],
)
def test_the_limit_of_an_llm_is_the_one_it_was_given_the_largest_of_several(llm: Any, want_limit: int | None) -> None:
    assert own_limit(llm) == want_limit


def test_a_prompt_is_bounded_by_its_bytes() -> None:
    messages = [{"role": "user", "content": "日本語😀" * 100}, {"role": "tool", "content": [{"text": "a\ud800"}]}]
    schema = {"function": {"parameters": {"x": "y" * 1000}}}
    tokens = prompt_tokens(messages, [schema])
    assert 100 * 13 + 2 * 64 + 1000 + 64 <= tokens <= 100 * 13 + 400 + 1000


@pytest.mark.parametrize(
    ("messages", "tools", "want_at_least", "want_at_most"),
    [
        pytest.param(None, None, 0, 0, id="nothing"),
        pytest.param([], [], 0, 0, id="empty"),
        pytest.param("hello", None, 5 + 64, 7 + 64, id="a prompt that is one text"),
        pytest.param(["a"] * 10, None, 10 * 65, 10 * 67, id="each message has its frame"),
        pytest.param(None, [{}] * 3, 3 * 66, 3 * 66, id="each tool too"),
        pytest.param([{"content": object()}], None, 64, 200, id="what is no JSON"),
    ],
)
def test_the_frames_of_a_prompt_count(messages: Any, tools: Any, want_at_least: int, want_at_most: int) -> None:
    assert want_at_least <= prompt_tokens(messages, tools) <= want_at_most


@settings(deadline=None)
@given(st.lists(st.text()), st.lists(st.dictionaries(st.text(), st.text(), max_size=3)))
def test_no_text_is_longer_than_its_bound(messages: list[str], tools: list[dict[str, str]]) -> None:
    size = sum(len(text.encode(errors="replace")) for text in messages)
    size += sum(len(json.dumps(tool, ensure_ascii=False).encode(errors="replace")) for tool in tools)
    assert prompt_tokens(messages, tools) >= size
