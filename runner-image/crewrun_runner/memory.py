"""Whether a crew remembers, and whether this image and this run can. Purely computational.

CrewAI makes the default embedder when it is first used, in a thread of its own, and goes on without memory when
that fails. So what is missing is found here, before any LLM call.
"""

from collections.abc import Callable, Mapping
from typing import Any

from crewrun_api.reasons import Reason
from crewrun_api.settings import Memory
from crewrun_runner.absent import LEFT_OUT, advice
from crewrun_runner.refusal import Refusal

_DEFAULT_EMBEDDER = "openai"
_OPENAI_KEYS = ("OPENAI_API_KEY", "EMBEDDINGS_OPENAI_API_KEY")
#: They load a model into the process, which they would have to download first.
_IN_PROCESS = frozenset({"instructor", "onnx", "openclip", "sentence-transformer", "text2vec"})
#: The module that an embedder's provider needs beside chromadb.
_MODULES = {
    "amazon-bedrock": "boto3",
    "cohere": "cohere",
    "google": "google.genai",
    "google-generativeai": "google.genai",
    "google-vertex": "google.genai",
    "ollama": "ollama",
    "oracle": "oracledb",
    "roboflow": "inference",
    "voyageai": "voyageai",
    "watsonx": "ibm_watsonx_ai",
}


def wanted(definition: Mapping[str, Any], memory: Memory | None) -> bool:
    """What the definition says is stronger than the settings."""
    return bool(definition.get("memory", memory is not None and memory.enabled))


def check(
    definition: Mapping[str, Any], memory: Memory | None, environ: Mapping[str, str], installed: Callable[[str], bool]
) -> None:
    """Raises a Refusal when the crew's memory cannot work."""
    if not wanted(definition, memory):
        return
    where = "definition.memory" if "memory" in definition else "memory.enabled"
    for module in ("lancedb", "chromadb"):
        if not installed(module):
            raise Refusal(Reason.INVALID_CREW, f"{where}: {advice(module)}")
    embedder = definition.get("embedder")
    if embedder is not None and not isinstance(embedder, Mapping):
        raise Refusal(Reason.INVALID_CREW, "definition.embedder: must be an object with provider and config")
    provider = str((embedder or {}).get("provider") or _DEFAULT_EMBEDDER)
    config = (embedder or {}).get("config")
    if provider in _IN_PROCESS:
        raise Refusal(
            Reason.INVALID_CREW,
            f"definition.embedder.provider: {provider} would download a model into the Pod, which is not supported; "
            "name a provider that is asked over the network, such as openai or ollama",
        )
    needed = _MODULES.get(provider)
    if needed and not installed(needed):
        says = (
            advice(needed)
            if needed in LEFT_OUT
            else f"the image has no module {needed}; name one in pod.image that has"
        )
        raise Refusal(Reason.INVALID_CREW, f"definition.embedder.provider: {provider}: {says}")
    if provider == _DEFAULT_EMBEDDER and not _has_key(config, environ):
        raise Refusal(
            Reason.INVALID_CREW,
            f"{'definition.embedder' if embedder else where}: memory asks OpenAI for embeddings unless "
            "definition.embedder names another provider, and OPENAI_API_KEY is not set; give the Secret in secrets",
        )


def _has_key(config: object, environ: Mapping[str, str]) -> bool:
    given = config.get("api_key") if isinstance(config, Mapping) else None
    return bool(given) or any(environ.get(name) for name in _OPENAI_KEYS)
