"""What an attempt's spans are called and say, by the semantic conventions for generative AI. Purely computational.

run > attempt > task > agent > llm call or tool. The ids of the trace and of the run's span follow from the run's
UID, so that the attempts of a run, each a process of its own, meet in one trace. No span holds a prompt, an answer,
or the text of an error, which may quote them.
"""

import hashlib
from collections.abc import Mapping

from crewrun_runner.operations import Kind, Operation, Result
from crewrun_runner.payload import Execution
from crewrun_runner.settings import provider

#: Either of them turns traces on.
ENV_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENV_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_ENV_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
#: The only one that the image has an exporter for.
PROTOCOL = "http/protobuf"
#: Unless OTEL_SERVICE_NAME says another.
SERVICE_NAME = "crewrun-runner"

Value = str | bool | int | float | list[str]

#: CrewAI's prefixes of models whose providers the conventions call something else.
_PROVIDERS = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether there is somewhere to send spans to."""
    return bool(environ.get(ENV_TRACES_ENDPOINT) or environ.get(ENV_ENDPOINT))


def refused(environ: Mapping[str, str]) -> str | None:
    """Why no spans can be sent in the way that is asked for."""
    for name in _ENV_PROTOCOLS:
        if environ.get(name, PROTOCOL) not in ("", PROTOCOL):
            return f"{name} is {environ[name]}: the image has no exporter for it; remove it, or set it to {PROTOCOL}"
    return None


def trace_id(run_uid: str) -> int:
    """The trace of a run that nobody gave a traceparent to."""
    return _derived(f"trace {run_uid}", 16)


def run_span_id(run_uid: str) -> int:
    """The span of the run, which its first attempt writes."""
    return _derived(f"run {run_uid}", 8)


def _derived(text: str, length: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:length], "big") or 1


def resource(me: Execution) -> dict[str, Value]:
    """What all spans of an attempt have in common, besides OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME."""
    return {
        "k8s.namespace.name": me.namespace,
        "k8s.pod.uid": me.pod_uid,
        "crewrun.run": me.name,
        "crewrun.run.uid": me.run_uid,
        "crewrun.attempt": me.attempt,
    }


def name(operation: Operation) -> str:
    """The span's name."""
    match operation.kind:
        case Kind.TASK:
            return f"task {operation.task}"
        case Kind.AGENT:
            return f"invoke_agent {operation.agent}"
        case Kind.LLM_CALL:
            return f"chat {_bare(operation.model)}"
        case Kind.TOOL:
            return f"execute_tool {operation.tool}"
    return str(operation.kind)


def attributes(operation: Operation) -> dict[str, Value]:
    """What is known when it starts."""
    known: dict[str, Value] = {"crewrun.task": operation.task}
    match operation.kind:
        case Kind.AGENT:
            known |= {"gen_ai.operation.name": "invoke_agent"}
        case Kind.LLM_CALL:
            known |= {"gen_ai.operation.name": "chat", "gen_ai.request.model": _bare(operation.model)}
            known |= {"gen_ai.provider.name": _provider(operation.model)}
        case Kind.TOOL:
            known |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": operation.tool}
            known |= {"gen_ai.tool.type": "function"}
    if operation.kind is not Kind.TASK:
        known["gen_ai.agent.name"] = operation.agent
    return {key: value for key, value in known.items() if value != ""}


def outcome(result: Result) -> dict[str, Value]:
    """What is known when it has ended."""
    known: dict[str, Value] = {}
    if result.error and not result.prevented:
        known["error.type"] = result.error
    if result.prevented:
        known["crewrun.prevented"] = True
    if result.tokens is not None:
        known["gen_ai.usage.input_tokens"] = result.tokens.prompt
        known["gen_ai.usage.cache_read.input_tokens"] = result.tokens.cached
        known["gen_ai.usage.output_tokens"] = result.tokens.completion
        known["gen_ai.usage.reasoning.output_tokens"] = result.tokens.reasoning
    if result.response:
        known["gen_ai.response.id"] = result.response
    if result.finish_reason:
        known["gen_ai.response.finish_reasons"] = [result.finish_reason]
    if result.from_cache:
        known["crewrun.tool.from_cache"] = True
    return known


def _bare(model: str) -> str:
    return model.partition("/")[2] or model


def _provider(model: str) -> str:
    prefix = provider(model)
    return _PROVIDERS.get(prefix, prefix)
