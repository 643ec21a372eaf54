"""How long an answer can be when the request does not say, and how long a prompt is whose request nobody sees.

Purely computational, and by shape.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

#: The longest answer of a model that nobody knows: CrewAI's own guess for such a model's whole window.
UNKNOWN_ANSWER = 8192
#: What a chat format adds to a message or a tool: its role, and where it begins and ends.
FRAME_TOKENS = 64
#: Each provider of CrewAI has its own name for it.
_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def listed_answer(catalog: Mapping[str, Any], provider: str, model: str) -> int | None:
    """The longest answer of a model, as a catalog of models in LiteLLM's form has it; else its whole window."""
    for field in ("max_output_tokens", "max_input_tokens"):
        spellings = (model, f"{provider}/{model}", model.rpartition("/")[2])
        entries = [entry for name in spellings if isinstance(entry := catalog.get(name), Mapping)]
        limits = [limit for entry in entries if isinstance(limit := entry.get(field), int)]
        if limits:
            return max(limits)
    return None


def own_limit(llm: Any) -> int | None:
    """The limit that somebody gave to an LLM, for all its answers to one prompt together."""
    given = (getattr(llm, name, None) for name in _CAPS)
    caps = [int(cap) for cap in given if isinstance(cap, int | float) and cap > 0]
    choices = getattr(llm, "n", None)
    return max(caps) * (choices if isinstance(choices, int) and choices > 1 else 1) if caps else None


def prompt_tokens(messages: Any, tools: Any) -> int:
    """The bytes of a prompt bound its tokens."""
    parts = [*_listed(messages), *_listed(tools)]
    return sum(_size(part) + FRAME_TOKENS for part in parts)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace"))
