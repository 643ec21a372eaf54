"""A scripted LLM for tests and demos: OpenAI's API, answers from a script, a ledger, and faults.

    async with ScriptedLLM({"default": {"text": "42"}}) as llm:
        ...  # an OpenAI client with base_url=llm.base_url
        assert llm.ledger.totals.succeeded_calls == 1

`ThreadedLLM` is the same for tests without an event loop, `python -m crewrun_testing` for Pods and people.
The server has no access control of its own: bind it to addresses that only tests can reach.
"""

from .ledger import Entry, Ledger, Totals
from .replies import Tokens, count_tokens
from .running import ScriptedLLM, ThreadedLLM
from .script import Fault, FaultKind, Match, Reply, Rule, Script, ScriptError, ToolCall, Usage, read_script

__all__ = [
    "Entry",
    "Fault",
    "FaultKind",
    "Ledger",
    "Match",
    "Reply",
    "Rule",
    "Script",
    "ScriptError",
    "ScriptedLLM",
    "ThreadedLLM",
    "Tokens",
    "ToolCall",
    "Totals",
    "Usage",
    "count_tokens",
    "read_script",
]
