"""What an answer used, by the shape of any provider's numbers: nothing is lost, and nonsense spoils nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_runner.tokens import MOST_TOKENS, Tokens

SHAPES: dict[str, tuple[dict[str, Any], Tokens]] = {
    "OpenAI chat": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 30,
            "total_tokens": 130,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 5},
        },
        Tokens(100, 64, 30, reasoning=20),
    ),
    "OpenAI chat without details": (
        {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        Tokens(5, 0, 2),
    ),
    "OpenAI responses": (
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 30,
            "output_tokens_details": {"reasoning_tokens": 12},
            "total_tokens": 130,
        },
        Tokens(100, 40, 30, reasoning=12),
    ),
    "Anthropic": (
        {"input_tokens": 10, "output_tokens": 7, "service_tier": "standard"},
        Tokens(10, 0, 7),
    ),
    "Anthropic, whose prompt leaves out its cache": (
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 7,
        },
        Tokens(1210, 1000, 7, written=200),
    ),
    "Gemini": (
        {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120, "cachedContentTokenCount": 60},
        Tokens(100, 60, 20),
    ),
    "Gemini, whose answer leaves out its thoughts and whose prompt its tools": (
        {
            "promptTokenCount": 100,
            "toolUsePromptTokenCount": 50,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 300,
            "totalTokenCount": 470,
        },
        Tokens(150, 0, 320, reasoning=300),
    ),
    "Gemini, which only thought": (
        {"promptTokenCount": 100, "thoughtsTokenCount": 300, "totalTokenCount": 400},
        Tokens(100, 0, 300, reasoning=300),
    ),
    "Bedrock converse": (
        {
            "inputTokens": 10,
            "outputTokens": 7,
            "totalTokens": 1217,
            "cacheReadInputTokens": 1000,
            "cacheWriteInputTokens": 200,
        },
        Tokens(1210, 1000, 7, written=200),
    ),
    "CrewAI's own names": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 30,
            "total_tokens": 130,
            "cached_prompt_tokens": 64,
            "reasoning_tokens": 20,
        },
        Tokens(100, 64, 30, reasoning=20),
    ),
    "a prompt alone": ({"prompt_tokens": 9}, Tokens(9)),
    "a sum alone": ({"total_tokens": 9}, Tokens(9)),
    "a sum beside its parts": ({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 900}, Tokens(1, 0, 1)),
    "nothing": ({}, Tokens()),
}


@pytest.mark.parametrize(("usage", "want_tokens"), SHAPES.values(), ids=SHAPES)
def test_each_provider_is_read_by_its_shape(usage: dict[str, Any], want_tokens: Tokens) -> None:
    assert Tokens.of(usage) == want_tokens


NONSENSE: dict[str, tuple[dict[str, Any], Tokens]] = {
    "negative": ({"prompt_tokens": -1, "completion_tokens": 4}, Tokens(0, 0, 4)),
    "a truth": ({"prompt_tokens": True, "completion_tokens": 4}, Tokens(0, 0, 4)),
    "text": ({"prompt_tokens": "12", "completion_tokens": 4}, Tokens(0, 0, 4)),
    "a float": ({"prompt_tokens": 12.5, "completion_tokens": 4}, Tokens(0, 0, 4)),
    "not a number": ({"prompt_tokens": float("nan"), "completion_tokens": 4}, Tokens(0, 0, 4)),
    "none": ({"prompt_tokens": None, "total_tokens": "x"}, Tokens()),
    "huge": ({"prompt_tokens": 1, "completion_tokens": 10**30}, Tokens(1, 0, MOST_TOKENS)),
    "more from the cache than there was": ({"prompt_tokens": 5, "cached_prompt_tokens": 9}, Tokens(5, 5)),
    "more from the cache and into it than there was": (
        {"prompt_tokens": 5, "cached_tokens": 20, "cache_creation_input_tokens": 4},
        Tokens(9, 9),
    ),
    "more reasoning than answer": ({"completion_tokens": 5, "reasoning_tokens": 9}, Tokens(0, 0, 5, reasoning=5)),
    "details that are none": ({"prompt_tokens": 5, "prompt_tokens_details": [1]}, Tokens(5)),
    "an empty name before the one that counts": ({"prompt_tokens": 0, "input_tokens": 8}, Tokens(8)),
}


@pytest.mark.parametrize(("usage", "want_tokens"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_nothing_and_does_not_spoil_the_rest(usage: dict[str, Any], want_tokens: Tokens) -> None:
    assert Tokens.of(usage) == want_tokens


NAMES = sorted({name for usage, _ in SHAPES.values() for name in usage})
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 10**6),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.none()),
)
DETAILS = st.dictionaries(st.sampled_from([*NAMES, "cached_tokens"]), VALUES, max_size=4)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES | DETAILS))
def test_whatever_an_endpoint_reports_parts_are_never_more_than_the_whole(usage: dict[str, Any]) -> None:
    tokens = Tokens.of(usage)
    assert min(tokens.prompt, tokens.cached, tokens.completion, tokens.written, tokens.reasoning) >= 0
    assert tokens.cached + tokens.written <= tokens.prompt
    assert tokens.reasoning <= tokens.completion
    assert tokens.total == tokens.prompt + tokens.completion <= 6 * MOST_TOKENS


COUNTS = st.integers(0, MOST_TOKENS)
TOKENS = st.builds(Tokens, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_a_sum_is_the_sum_of_each_part(one: Tokens, other: Tokens) -> None:
    for part in ("prompt", "cached", "completion", "written", "reasoning", "total"):
        assert getattr(one + other, part) == getattr(one, part) + getattr(other, part)
    assert one + Tokens() == one
