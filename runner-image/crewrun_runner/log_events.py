"""Every event and every field of the log: their names are a contract, and docs/reference/logs.md explains the same.

A line with any other is refused. Purely computational.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

ENV_LEVEL = "LOG_LEVEL"


class Level(StrEnum):
    """Weakest first; what is weaker than LOG_LEVEL is not written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    def passes(self, least: "Level") -> bool:
        order = list(Level)
        return order.index(self) >= order.index(least)


@dataclass(frozen=True)
class Event:
    """One kind of line: always of this level."""

    level: Level
    when: str


_DEBUG, _INFO, _WARNING, _ERROR = Level

#: The order of the fields in a line, with what each holds.
FIELDS: Mapping[str, str] = {
    "ts": "when it happened, RFC 3339 in UTC; lines of parallel tasks may stand out of order",
    "level": "`debug`, `info`, `warning` or `error`",
    "event": "a name of the first table",
    "run": "namespace/name of the run",
    "attempt": "number of the attempt, from 1",
    "task": "name of the task of the crew; what is delegated belongs to the task that delegates",
    "agent": "role of the agent",
    "model": "model, as the definition or the profile spells it",
    "nextModel": "model that the call goes to instead",
    "tool": "name of the tool",
    "fromCache": "true when the result came from CrewAI's cache; it does not say so of native function calls",
    "promptTokens": "tokens sent, cached ones included",
    "cachedPromptTokens": "tokens sent that the provider had cached",
    "completionTokens": "tokens answered, those of reasoning included",
    "reasoningTokens": "tokens answered that were reasoning",
    "totalTokens": "tokens sent and answered",
    "costUSD": "what the provider bills for it, in USD, as a decimal string",
    "requests": "LLM calls that were answered; of a webhook: tries",
    "tasks": "tasks of the crew",
    "tasksSucceeded": "tasks that have a result",
    "agents": "agents of the crew",
    "durationSeconds": "how long it took",
    "reason": "why the attempt ended, see [reasons](reasons.md)",
    "exitCode": "exit code of the runner",
    "status": "HTTP status of the answer",
    "error": "class of the exception, or another short name of the error; never its text",
    "message": "for people; it quotes no prompt and no answer",
    "prompt": "`verbose` alone: what was said to the model since its last answer, or to the guardrail",
    "answer": "`verbose` alone: what the model or the guardrail answered",
    "arguments": "`verbose` alone: arguments of the tool",
    "result": "`verbose` alone: what the tool gave back",
}

EVENTS: Mapping[str, Event] = {
    "runner_started": Event(_INFO, "the process is up; crewai is not loaded yet"),
    "log_level_unknown": Event(_WARNING, "LOG_LEVEL names no level: `info` is used"),
    "report_address_refused": Event(_WARNING, "the address to report to is not usable: the attempt is not reported"),
    "traces_refused": Event(_WARNING, "no traces are sent, though an endpoint is set: the message says why"),
    "traceparent_ignored": Event(_WARNING, "TRACEPARENT is not in W3C's format: the run gets a trace of its own"),
    "traces_given_up": Event(_WARNING, "the endpoint did not take the last spans in time"),
    "crew_loaded": Event(_INFO, "the crew is ready to start"),
    "run_resumed": Event(_INFO, "tasks that an earlier attempt finished are skipped; `task` is the first that is not"),
    "checkpoint_refused": Event(_WARNING, "the checkpoint cannot be used: the attempt starts from scratch"),
    "task_started": Event(_INFO, "a task begins"),
    "task_completed": Event(_INFO, "a task has its result"),
    "task_failed": Event(_ERROR, "a task ends with an error"),
    "agent_started": Event(_DEBUG, "an agent begins to work on a task, or on what was delegated to it"),
    "agent_completed": Event(_DEBUG, "an agent is done"),
    "agent_failed": Event(_WARNING, "an agent gives up"),
    "llm_call_started": Event(_DEBUG, "a request goes to the model"),
    "llm_call_completed": Event(_INFO, "the model answered"),
    "llm_call_failed": Event(_WARNING, "the call ends without an answer"),
    "llm_call_waits": Event(_INFO, "requests begin to wait for the rate of their queue: the message says for what"),
    "llm_call_retried": Event(_WARNING, "a request failed, and is made again"),
    "llm_failover": Event(_WARNING, "a model failed, and the call goes to the next one"),
    "tool_started": Event(_DEBUG, "a tool is called"),
    "tool_completed": Event(_INFO, "a tool gave its result"),
    "tool_failed": Event(_WARNING, "a tool raised, or said that it failed; the agent goes on with the error"),
    "guardrail_started": Event(_DEBUG, "a task's output is checked"),
    "guardrail_completed": Event(_INFO, "a guardrail accepts the output"),
    "guardrail_failed": Event(_WARNING, "a guardrail refuses the output: the task is done again, or fails"),
    "memory_search_started": Event(_DEBUG, "memory is searched"),
    "memory_search_completed": Event(_DEBUG, "memory answered"),
    "memory_search_failed": Event(_WARNING, "memory could not be searched; the agent goes on without"),
    "memory_save_started": Event(_DEBUG, "something is put into memory"),
    "memory_save_completed": Event(_DEBUG, "memory has it"),
    "memory_save_failed": Event(_WARNING, "memory does not have it; the crew goes on"),
    "knowledge_search_started": Event(_DEBUG, "knowledge is searched"),
    "knowledge_search_completed": Event(_DEBUG, "knowledge answered"),
    "knowledge_search_failed": Event(_WARNING, "knowledge could not be searched; the agent goes on without"),
    "memory_in_use": Event(_INFO, "the crew's memory is open elsewhere: it is not made smaller now"),
    "memory_trimmed": Event(_WARNING, "the crew's memory was larger than its size: the oldest quarter is gone"),
    "memory_high": Event(_WARNING, "the runner uses nine tenths of its memory limit"),
    "report_refused": Event(_WARNING, "the operator does not take reports of this attempt"),
    "report_not_taken": Event(_WARNING, "a report did not arrive; it is sent again"),
    "report_given_up": Event(_WARNING, "the last report did not arrive in time"),
    "run_completed": Event(_INFO, "the attempt ends with a result"),
    "run_failed": Event(_ERROR, "the attempt ends with an error"),
    "run_stopped": Event(_INFO, "the attempt ends because it was told to"),
    "webhook_delivered": Event(_INFO, "the receiver of a webhook has it"),
    "webhook_refused": Event(_WARNING, "the receiver of a webhook did not take it"),
}


def least_level(environ: Mapping[str, str]) -> tuple[Level, str | None]:
    """The weakest level that is written, and what is wrong with the variable that names it."""
    given = environ.get(ENV_LEVEL, "").strip()
    try:
        return Level(given.lower() or Level.INFO), None
    except ValueError:
        known = ", ".join(Level)
        return Level.INFO, f"{ENV_LEVEL} is {given!r}; it must be one of {known}: {Level.INFO} is used"
