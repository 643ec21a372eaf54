"""What a strict policy refuses and allows, as one table: for the operator and for the API server alike."""

from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
POLICY: Spec = {
    "secretSources": "ProfileOnly",
    "images": ["ghcr.io/acme", "localhost:5000/", "python:3.13"],
    "serviceAccounts": ["default", "crews"],
    "runtimeClasses": ["gvisor"],
    "volumeTypes": ["emptyDir", "configMap", "projected"],
}
AGENT: Spec = {"role": "Writer", "goal": "Explain {topic}", "backstory": "Concise."}
TASK: Spec = {"name": "t", "description": "Explain {topic}.", "expected_output": "A line.", "agent": "a"}
KEY: Spec = {"name": "of-another-team", "key": "openai"}
MCP: Spec = {"url": "https://elsewhere.test/mcp"}


@dataclass(frozen=True)
class Case:
    """A spec of a kind. It is refused at this path, or allowed if there is none."""

    title: str
    kind: str
    spec: Spec
    want: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.title}" + (f" at {self.want}" if self.want else "")


def definition(agent: Spec | None = None, task: Spec | None = None, **crew: Any) -> Spec:
    return {"agents": {"a": {**AGENT, **(agent or {})}}, "tasks": [{**TASK, **(task or {})}], **crew}


def crew_spec(**spec: Any) -> Spec:
    return {"definition": definition(), **spec}


def run_spec(**spec: Any) -> Spec:
    return {"crew": crew_spec(), "inputs": {"topic": "AI"}, "llm": {"model": "openai/gpt-4o"}, **spec}


#: Of a profile, a Crew and a run alike.
_BOUNDS: list[tuple[str, Spec, str]] = [
    ("an image off the list", {"pod": {"image": "ghcr.io/evil/x"}}, "pod.image"),
    ("an image whose name only begins like one on the list", {"pod": {"image": "ghcr.io/acme-evil/x"}}, "pod.image"),
    ("an image on another port of a host on the list", {"pod": {"image": "python:3.13:443/x"}}, "pod.image"),
    ("an image of another tag", {"pod": {"image": "python:3.14"}}, "pod.image"),
    ("a foreign service account", {"pod": {"serviceAccountName": "cluster-admin"}}, "pod.serviceAccountName"),
    ("another runtime class", {"pod": {"runtimeClassName": "privileged"}}, "pod.runtimeClassName"),
    ("hostPath", {"pod": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}, "pod.volumes[0]"),
    ("a kind of volume that is not listed", {"pod": {"volumes": [{"name": "v", "nfs": {}}]}}, "pod.volumes[0]"),
    ("a volume without a kind", {"pod": {"volumes": [{"name": "v"}]}}, "pod.volumes[0]"),
    (
        "a volume of two kinds",
        {"pod": {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}},
        "pod.volumes[0]",
    ),
    (
        "the second volume",
        {"pod": {"volumes": [{"name": "u", "emptyDir": {}}, {"name": "v", "secret": {"secretName": "k"}}]}},
        "pod.volumes[1]",
    ),
    (
        "a service account token",
        {"pod": {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}},
        "pod.volumes[0].projected.sources[0]",
    ),
    (
        "a certificate of the Pod's own",
        {
            "pod": {
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}, {"podCertificate": {}}]}}
                ]
            }
        },
        "pod.volumes[0].projected.sources[1]",
    ),
]
#: Of a Crew and a run alike.
_SECRETS: list[tuple[str, Spec, str]] = [
    ("another's Secret as a variable", {"secrets": [{"name": "K", "secretKeyRef": KEY}]}, "secrets"),
    ("another's Secret as files", {"secrets": [{"mountPath": "/k", "secretName": "x"}]}, "secrets"),
    ("a plain variable", {"env": [{"name": "OPENAI_BASE_URL", "value": "https://elsewhere.test"}]}, "env"),
    ("a variable from a Secret", {"env": [{"name": "K", "valueFrom": {"secretKeyRef": KEY}}]}, "env"),
    ("all variables of a Secret", {"envFrom": [{"secretRef": {"name": "x"}}]}, "envFrom"),
    ("keys of checkpoints", {"checkpointEncryption": {"secretName": "x"}}, "checkpointEncryption"),
    ("an address of a model", {"llm": {"baseURL": "https://elsewhere.test/v1"}}, "llm.baseURL"),
    ("a model that names no provider", {"llm": {"model": "gpt-4o"}}, "llm.model"),
    ("a model whose name is an address", {"llm": {"model": "huggingface/https://elsewhere.test"}}, "llm.model"),
    ("an address behind a provider", {"llm": {"model": "openai/https://elsewhere.test"}}, "llm.model"),
    ("a provider of LiteLLM", {"llm": {"model": "groq/llama"}}, "llm.model"),
    ("a model with a line feed", {"llm": {"model": "openai/gpt-4o\n"}}, "llm.model"),
    ("a fallback model", {"llm": {"fallbackModels": ["openai/gpt-4o", "groq/x"]}}, "llm.fallbackModels[1]"),
    ("a claim with others' memory", {"memory": {"persistentVolumeClaim": "theirs"}}, "memory.persistentVolumeClaim"),
    ("an image of one's own", {"pod": {"image": "ghcr.io/acme/x"}}, "pod.image"),
    ("a pull policy", {"pod": {"imagePullPolicy": "Always"}}, "pod.imagePullPolicy"),
    ("pull secrets", {"pod": {"imagePullSecrets": [{"name": "registry"}]}}, "pod.imagePullSecrets"),
    ("volumes", {"pod": {"volumes": [{"name": "v", "emptyDir": {}}]}}, "pod.volumes"),
    ("mounts", {"pod": {"volumeMounts": [{"name": "crewrun-home", "mountPath": "/x"}]}}, "pod.volumeMounts"),
    ("a service account that is on the list", {"pod": {"serviceAccountName": "crews"}}, "pod.serviceAccountName"),
    ("a runtime class that is on the list", {"pod": {"runtimeClassName": "gvisor"}}, "pod.runtimeClassName"),
    ("labels, which network policies select", {"pod": {"labels": {"egress": "all"}}}, "pod.labels"),
    ("annotations, which injectors obey", {"pod": {"annotations": {"inject": "yes"}}}, "pod.annotations"),
]
_OF_RUNS: list[tuple[str, Spec, str]] = [
    ("an input from a Secret", {"inputsFrom": [{"secretKeyRef": KEY, "input": "more"}]}, "inputsFrom"),
    ("inputs from a ConfigMap", {"inputsFrom": [{"configMapRef": {"name": "x"}}]}, "inputsFrom"),
    (
        "a header from a Secret",
        {
            "onSuccess": {
                "webhook": {"url": "https://x.test", "headersFrom": [{"name": "A", "secretKeyRef": KEY}]},
            }
        },
        "onSuccess.webhook.headersFrom",
    ),
    ("an address from a Secret", {"onFailure": {"webhook": {"urlFrom": KEY}}}, "onFailure.webhook.urlFrom"),
]
_LLM_WITH_KEY = {"model": "openai/gpt-4o", "api_key": "$(K)"}
_LLM_ELSEWHERE = {"model": "openai/gpt-4o", "base_url": "https://elsewhere.test"}
_DEFINITIONS: list[tuple[str, Spec, str]] = [
    ("a tool", definition(agent={"tools": ["FileReadTool"]}), "agents.a.tools"),
    ("a tool of a task", definition(task={"tools": ["acme.tools:Shell"]}), "tasks[0].tools"),
    ("a custom tool", definition(agent={"tools": ["custom:shell"]}), "agents.a.tools"),
    ("Python", definition(agent={"type": {"python": "os.system"}}), "agents.a.type"),
    ("a callback", definition(task={"callback": "os.system"}), "tasks[0].callback"),
    ("a guardrail in Python", definition(task={"guardrail": {"python": "os.system"}}), "tasks[0].guardrail"),
    ("a list of them", definition(task={"guardrails": ["Short.", {"python": "a.b"}]}), "tasks[0].guardrails[1]"),
    ("an MCP server", definition(agent={"mcps": [MCP]}), "agents.a.mcps"),
    ("another agent", definition(agent={"a2a": {"endpoint": "https://elsewhere.test"}}), "agents.a.a2a"),
    ("apps", definition(agent={"apps": ["gmail"]}), "agents.a.apps"),
    ("knowledge", definition(agent={"knowledge_sources": [{"file_paths": ["/proc/self/environ"]}]}),
     "agents.a.knowledge_sources"),
    ("an embedder", definition(embedder={"provider": "openai", "config": {"api_base": "https://x"}}), "embedder"),
    ("memory with an address", definition(memory={"llm": _LLM_ELSEWHERE}), "memory"),
    ("skills", definition(agent={"skills": ["/etc"]}), "agents.a.skills"),
    ("input files", definition(task={"input_files": {"f": "/proc/self/environ"}}), "tasks[0].input_files"),
    ("a file elsewhere", definition(task={"output_file": "/opt/crewrun/x.py"}), "tasks[0].output_file"),
    ("a file above", definition(task={"output_file": "a/../../x"}), "tasks[0].output_file"),
    ("a file that an input names", definition(task={"output_file": "{topic}.md"}), "tasks[0].output_file"),
    ("an agent of CrewAI's platform", definition(agent={"from_repository": "x"}), "agents.a.from_repository"),
    ("code execution", definition(agent={"allow_code_execution": True}), "agents.a.allow_code_execution"),
    ("fields that hide", definition(agent={"config": {"tools": ["x"]}}), "agents.a.config"),
    ("an executor", definition(agent={"executor_class": "a.B"}), "agents.a.executor_class"),
    ("images by their path", definition(agent={"multimodal": True}), "agents.a.multimodal"),
    ("an address of an agent's model", definition(agent={"llm": _LLM_ELSEWHERE}), "agents.a.llm.base_url"),
    ("the same in its settings", definition(agent={"settings": {"llm": _LLM_ELSEWHERE}}),
     "agents.a.settings.llm.base_url"),
    ("a key in a model", definition(agent={"function_calling_llm": _LLM_WITH_KEY}),
     "agents.a.function_calling_llm.api_key"),
    ("tools in settings", definition(agent={"settings": {"tools": ["FileReadTool"]}}), "agents.a.settings.tools"),
    ("a model of LiteLLM", definition(agent={"llm": "groq/llama"}), "agents.a.llm"),
    ("the manager's model", definition(process="hierarchical", manager_llm=_LLM_ELSEWHERE), "manager_llm.base_url"),
    ("a model that is no text", definition(manager_llm=7), "manager_llm"),
    ("a field that nobody knows", definition(shiny=True), "shiny"),
    ("a field of a task that nobody knows", definition(task={"shiny": 1}), "tasks[0].shiny"),
    ("an agent in a list", {"agents": [{"name": "a", **AGENT, "mcps": [MCP]}], "tasks": [TASK]}, "agents[0].mcps"),
    ("a wrapped agent in a list", {"agents": [{"a": {**AGENT, "tools": ["x"]}}], "tasks": [TASK]},
     "agents[0].a.tools"),
    ("the second task", {"agents": {"a": AGENT}, "tasks": [TASK, {**TASK, "name": "u", "tools": ["x"]}]},
     "tasks[1].tools"),
    ("more tasks than anybody can count", {"agents": {"a": AGENT}, "tasks": [TASK] * 1001}, "tasks"),
    ("the second agent", {"agents": {"a": AGENT, "b": {**AGENT, "tools": ["x"]}}, "tasks": [TASK]}, "agents.b.tools"),
]  # fmt: skip

REFUSED = [
    *(Case(title, "CrewProfile", spec, f"spec.{path}") for title, spec, path in _BOUNDS),
    *(Case(title, "Crew", crew_spec(**spec), f"spec.{path}") for title, spec, path in _SECRETS),
    *(Case(title, "CrewRun", run_spec(**spec), f"spec.{path}") for title, spec, path in (*_SECRETS, *_OF_RUNS)),
    *(
        Case(title, "CrewRun", run_spec(crew=crew_spec(**spec)), f"spec.crew.{path}")
        for title, spec, path in _SECRETS
    ),
    *(Case(title, "Crew", {"definition": found}, f"spec.definition.{path}") for title, found, path in _DEFINITIONS),
    *(
        Case(title, "CrewRun", run_spec(crew={"definition": found}), f"spec.crew.definition.{path}")
        for title, found, path in _DEFINITIONS
    ),
    Case("an entrypoint", "Crew", {"entrypoint": {"target": "a:B", "image": "ghcr.io/acme/x"}}, "spec.entrypoint"),
    Case("an entrypoint", "CrewRun", run_spec(crew={"entrypoint": {"target": "a:B", "image": "ghcr.io/acme/x"}}),
         "spec.crew.entrypoint"),
]  # fmt: skip

_FULL_AGENT = {
    **AGENT,
    "llm": {"model": "openai/gpt-4o-mini", "temperature": 0.1, "max_tokens": 100, "stop": ["END"]},
    "function_calling_llm": "ollama/llama3:8b",
    "settings": {"max_iter": 3, "llm": "azure/my-deployment"},
    "tools": [],
    "max_rpm": 10,
    "guardrail": "One line.",
}
_FULL_TASK = {**TASK, "context": [], "output_file": "reports/day one.md", "guardrails": ["Short."], "markdown": True}
_FULL_POD = {
    "resources": {"limits": {"memory": "1Gi"}},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {},
    "topologySpreadConstraints": [],
    "terminationGracePeriodSeconds": 5,
}
_SETTINGS: Spec = {
    "llm": {"model": "openrouter/anthropic/claude-3.5", "fallbackModels": ["openai/gpt-4o"], "temperature": 0.5},
    "pod": _FULL_POD,
    "retry": {"maxAttempts": 1, "backoff": {"initialSeconds": 0.5}},
    "memory": {"enabled": False, "size": "1Gi"},
    "budget": {"maxTokens": 1000},
    "prices": {"openai/gpt-4o": {"inputPerMillionUSD": "1", "outputPerMillionUSD": "2"}},
    "timeoutSeconds": 60,
    "ttlSecondsAfterFinished": 60,
    "verbose": True,
}
_FULL: Spec = {
    "agents": {"a": _FULL_AGENT},
    "tasks": [_FULL_TASK],
    "process": "sequential",
    "memory": False,
    "inputs": {"topic": "AI", "python": "3.13", "tools": ["any"], "base_url": "https://x.test"},
}
ALLOWED = [
    Case("a plain crew", "Crew", crew_spec()),
    Case("all that crews need", "Crew", {"definition": _FULL, "inputSchema": {"type": "object"}, **_SETTINGS}),
    Case("a ConfigMap", "Crew", {"configMap": {"name": "classic"}}),
    Case("agents in a list", "Crew", {"definition": {"agents": [{"name": "a", **_FULL_AGENT}], "tasks": [TASK]}}),
    Case("wrapped agents", "Crew", {"definition": {"agents": [{"a": _FULL_AGENT}], "tasks": [TASK]}}),
    Case("a hierarchy", "Crew", {"definition": definition(process="hierarchical", manager_llm="openai/gpt-4o")}),
    Case("nulls, which say nothing", "Crew", {"definition": definition(agent={"llm": None, "tools": None})}),
    Case("a plain run", "CrewRun", run_spec()),
    Case("all that runs need", "CrewRun", run_spec(crew={"definition": _FULL}, **_SETTINGS)),
    Case("a webhook", "CrewRun", run_spec(onSuccess={"webhook": {"url": "https://x.test/hook"}})),
    Case("a Crew by its name", "CrewRun", {
        "crewRef": {"name": "x"}, "profile": "y", "inputs": {"topic": "AI"}, "suspend": False, "rerun": "1",
    }),
    Case("a profile with all that crews may not say", "CrewProfile", {
        "secrets": [{"name": "OPENAI_API_KEY", "secretKeyRef": KEY}],
        "env": [{"name": "A", "value": "b"}],
        "llm": {"model": "groq/x", "baseURL": "https://gateway.test/v1"},
        "pod": {
            "image": "ghcr.io/acme/runner:1@sha256:" + "0" * 64,
            "serviceAccountName": "crews",
            "runtimeClassName": "gvisor",
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
            ],
            "labels": {"a": "b"},
        },
    }),
    Case("an image below a host with a port", "CrewProfile", {"pod": {"image": "localhost:5000/crews/x"}}),
    Case("an image with the listed tag", "CrewProfile", {"pod": {"image": "python:3.13@sha256:" + "0" * 64}}),
    Case("the operator's own image", "CrewProfile", {"pod": {"image": "localhost/crewrun-runner:dev"}}),
]  # fmt: skip
