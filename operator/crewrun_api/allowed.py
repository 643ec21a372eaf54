"""What crews and runs may say under `secretSources: ProfileOnly`. Purely computational; a table of shapes.

The keys of a profile are in the runner's environment and files. Whoever can run code there, read a file, write a file
of the runner's or choose where a model is asked, has them. So this is a list of what cannot do any of that, and
everything else is refused: a field that is new to the API or to CrewAI is refused until it stands here.
"""

import re
from collections.abc import Callable
from typing import Any

from crewrun_api.shapes import ANYTHING, ByType, Each, Fields, Having, Leaf, Named, Shape, Wrapped

WHY = (
    "crews and runs may not say this here, since it could lead to the keys of the profile (policy.secretSources is "
    "ProfileOnly); put it into the CrewProfile, or remove it"
)
#: CrewAI's native providers: each goes to its own address with a key of its own name. Any other name goes to LiteLLM,
#: which knows providers whose names carry an address, and some that it sends another provider's key.
PROVIDERS = (
    *("anthropic", "aws", "azure", "azure_openai", "bedrock", "cerebras", "claude", "dashscope", "deepinfra"),
    *("deepseek", "gemini", "google", "hosted_vllm", "ollama", "ollama_chat", "openai", "openrouter", "snowflake"),
)
_PART = "[A-Za-z0-9]([A-Za-z0-9._:@+-]*[A-Za-z0-9])?"
_MODEL = f"^({'|'.join(PROVIDERS)})(/{_PART})+$"
_FILE = "^[A-Za-z0-9_-][A-Za-z0-9._ -]*(/[A-Za-z0-9_-][A-Za-z0-9._ -]*)*$"


def _matching(pattern: str, why: str) -> Leaf:
    expression = re.compile(pattern[:-1] + r"\Z")  # `$` would let a line feed pass at the end
    return Leaf(
        lambda value, _: isinstance(value, str) and expression.match(value) is not None,
        f"type({{value}}) == string && {{value}}.matches('{pattern}')",
        why,
    )


def _plain(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _leaf(allows: Callable[[Any], bool], cel: str) -> Leaf:
    return Leaf(lambda value, _: allows(value), cel, WHY)


#: A text, a number or a switch.
PLAIN = _leaf(_plain, "type({value}) != map && type({value}) != list")
TEXT = _leaf(lambda value: isinstance(value, str), "type({value}) == string")
#: Memory as an object names an address.
SWITCH = _leaf(lambda value: isinstance(value, bool), "type({value}) == bool")
NONE = Leaf(
    lambda value, _: value == [],
    "type({value}) == list && {value}.size() == 0",
    "crews and runs may not have tools here, since a tool could read the keys of the profile (policy.secretSources is "
    "ProfileOnly); remove it",
)
MODEL = _matching(
    _MODEL,
    "must say provider/model, of a provider that has its own address and key (policy.secretSources is ProfileOnly): "
    + ", ".join(PROVIDERS),
)
OUTPUT_FILE = _matching(
    _FILE,
    "must be a plain relative path without templates and parts that begin with a dot, as report.md "
    "(policy.secretSources is ProfileOnly)",
)


def _these(title: str, **fields: Shape) -> Fields:
    return Fields(title, fields, WHY)


def _plain_fields(*names: str) -> dict[str, Shape]:
    return dict.fromkeys(names, PLAIN)


# --- Definitions, in CrewAI's names -----------------------------------------------------------------------------

LLM = ByType(
    text=MODEL,
    fields=_these(
        "definitionLLM",
        model=MODEL,
        stop=ANYTHING,
        **_plain_fields("temperature", "timeout", "max_tokens", "max_completion_tokens", "top_p", "top_k", "seed"),
        **_plain_fields("presence_penalty", "frequency_penalty", "reasoning_effort", "max_retries"),
    ),
)
_AGENT: dict[str, Shape] = {
    **_plain_fields("role", "goal", "backstory", "max_iter", "max_rpm", "max_execution_time", "max_retry_limit"),
    **_plain_fields("max_tokens", "verbose", "cache", "allow_delegation", "respect_context_window"),
    **_plain_fields("use_system_prompt", "system_template", "prompt_template", "response_template", "inject_date"),
    **_plain_fields("date_format", "guardrail_max_retries", "tool_failure_policy", "use_better_compaction"),
    "name": TEXT,  # of an agent in a list
    "type": TEXT,
    "guardrail": TEXT,
    "memory": SWITCH,
    "tools": NONE,
    "llm": LLM,
    "function_calling_llm": LLM,
}
AGENT = _these("agent", **_AGENT, settings=_these("agentSettings", **_AGENT))
TASK = _these(
    "task",
    **_plain_fields("name", "description", "expected_output", "agent", "async_execution", "markdown", "human_input"),
    **_plain_fields("guardrail_max_retries", "max_retries", "create_directory", "tool_failure_policy"),
    **_plain_fields("allow_crewai_trigger_context"),
    context=ANYTHING,
    type=TEXT,
    guardrail=TEXT,
    guardrails=Each(TEXT),
    output_file=OUTPUT_FILE,
    tools=NONE,
)
DEFINITION = _these(
    "definition",
    **_plain_fields("name", "process", "verbose", "cache", "max_rpm", "stream", "tool_failure_policy"),
    agents=ByType(fields=Named(AGENT), items=Each(Having("name", AGENT, Wrapped(AGENT)))),
    tasks=Each(TASK),
    inputs=ANYTHING,
    memory=SWITCH,
    manager_agent=TEXT,
    manager_llm=LLM,
    function_calling_llm=LLM,
)

# --- Specs ------------------------------------------------------------------------------------------------------

POD = _these(
    "pod",
    **dict.fromkeys(
        (
            *("affinity", "nodeSelector", "priorityClassName", "resources", "terminationGracePeriodSeconds"),
            *("tolerations", "topologySpreadConstraints"),
        ),
        ANYTHING,
    ),
)
_SETTINGS: dict[str, Shape] = {
    **dict.fromkeys(
        (
            *("attemptTimeoutSeconds", "budget", "cache", "maxRPM", "nodeLostSeconds", "prices", "reportGraceSeconds"),
            *("retry", "startDeadlineSeconds", "timeoutSeconds", "ttlSecondsAfterFinished", "verbose"),
        ),
        ANYTHING,
    ),
    "llm": _these(
        "llm", model=MODEL, fallbackModels=Each(MODEL), **_plain_fields("temperature", "timeoutSeconds", "maxRetries")
    ),
    "memory": _these("memory", **_plain_fields("enabled", "size")),
    "pod": POD,
}
CREW = _these("crew", **_SETTINGS, profile=ANYTHING, definition=DEFINITION, configMap=ANYTHING, inputSchema=ANYTHING)
HOOK = _these("hook", webhook=_these("webhook", url=ANYTHING))
RUN = _these(
    "run",
    **_SETTINGS,
    **dict.fromkeys(("cancel", "crewRef", "inputs", "priority", "profile", "queue", "rerun", "suspend"), ANYTHING),
    crew=CREW,
    onFailure=HOOK,
    onSuccess=HOOK,
)
#: By kind. A kind that makes runs of a template has it as a field of this shape.
PROFILE_ONLY = {"Crew": CREW, "CrewRun": RUN}
