"""What one answer used, from the numbers of any provider. Purely computational, and by shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: No answer has so many: an endpoint that reports nonsense must not spoil the record.
MOST_TOKENS = 10**9

# The same number has another name with OpenAI (two interfaces), Anthropic, Gemini and Bedrock.
_PROMPT = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count", "inputTokens")
_COMPLETION = (
    *("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count", "outputTokens"),
)
_CACHED = ("cached_tokens", "cached_prompt_tokens", "cachedContentTokenCount")
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughtsTokenCount")
#: Anthropic and Bedrock do not count these in the prompt.
_CACHED_APART = ("cache_read_input_tokens", "cacheReadInputTokens", "cacheReadInputTokenCount")
_WRITTEN_APART = ("cache_creation_input_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount")
#: Gemini counts neither of these where others do.
_PROMPT_APART = ("toolUsePromptTokenCount",)
_COMPLETION_APART = ("thoughtsTokenCount",)
_DETAILS = ("prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details")


@dataclass(frozen=True)
class Tokens:
    """`prompt` includes what was read from a cache (`cached`) and what was put into one (`written`);
    `completion` includes `reasoning`."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    written: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> "Tokens":
        """From a provider's numbers; what it leaves out is 0."""
        numbers = {**usage}
        for name in _DETAILS:
            if isinstance(details := usage.get(name), Mapping):
                numbers = {**details, **numbers}
        cached_apart, written = _sum(numbers, _CACHED_APART), _sum(numbers, _WRITTEN_APART)
        prompt = _first(numbers, _PROMPT) + cached_apart + written + _sum(numbers, _PROMPT_APART)
        completion = _first(numbers, _COMPLETION) + _sum(numbers, _COMPLETION_APART)
        if not prompt and not completion:
            prompt = _first(numbers, ("total_tokens",))  # a sum alone: nothing of it may get lost
        cached = min(prompt, cached_apart or _first(numbers, _CACHED))
        return cls(
            prompt=prompt,
            cached=cached,
            completion=completion,
            written=min(prompt - cached, written),
            reasoning=min(completion, _first(numbers, _REASONING)),
        )

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.written + other.written,
            self.reasoning + other.reasoning,
        )


def _first(numbers: Mapping[str, Any], names: Iterable[str]) -> int:
    return next((count for name in names if (count := _count(numbers, name))), 0)


def _sum(numbers: Mapping[str, Any], names: Iterable[str]) -> int:
    return sum(_count(numbers, name) for name in names)


def _count(numbers: Mapping[str, Any], name: str) -> int:
    value = numbers.get(name)
    return min(max(0, value), MOST_TOKENS) if isinstance(value, int) and not isinstance(value, bool) else 0
