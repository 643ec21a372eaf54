"""How many tokens an LLM call can cost at the most, before it is made. Purely computational, and by shape.

A token of a byte-level tokenizer stands for at least one byte, so the bytes of the prompt are a bound for its
tokens, whatever the model.
"""

import json
from collections.abc import Iterable
from typing import Any

#: What a provider's chat format adds to a message: its role, and where it begins and ends.
_MESSAGE_TOKENS = 64
#: Each provider of CrewAI has its own name for it.
_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def most_tokens(messages: Iterable[Any], schemas: Iterable[Any], llm: Any, usage_ratio: float, unknown: int) -> int:
    """Prompt and answer of one call together.

    CrewAI gives `usage_ratio` of a model's context window as its size, and `unknown` stands for the window of a
    model that it does not know.
    """
    prompt = sum(_size(message) + _MESSAGE_TOKENS for message in messages)
    prompt += sum(_size(schema) + _MESSAGE_TOKENS for schema in schemas)
    return prompt + _most_in_answer(llm, usage_ratio, unknown) * (getattr(llm, "n", None) or 1)


def _most_in_answer(llm: Any, usage_ratio: float, unknown: int) -> int:
    size = llm.get_context_window_size() if hasattr(llm, "get_context_window_size") else 0
    window = max(int((size + 1) / usage_ratio), unknown)  # + 1: CrewAI rounds down
    caps = [int(cap) for name in _CAPS if (cap := getattr(llm, name, None))]
    if not caps:
        return window
    # The default window says nothing about a model that is not known: there the cap is all there is.
    return max(caps) if window <= unknown else min(max(caps), window)


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace"))
