"""The chart: values in, objects out; wrong values are refused; and whatever the schema takes, the API server takes."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from charts.generate import schema
from devcluster.tools import ensure_tool
from tests.support.chart import NAMESPACE, refusal, render
from tests.support.foreign_crds import install_crds
from tests.support.kube import Document, Kube

DIGEST = "sha256:" + "a" * 64


def named(objects: list[Document], kind: str, name: str = "crewrun", namespace: str | None = None) -> Document:
    """The one object of this kind and name."""
    found = [
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
        and namespace in (None, each["metadata"].get("namespace"))
    ]
    assert len(found) == 1, [(each["kind"], each["metadata"]["name"]) for each in objects]
    return found[0]


def at(document: Document, path: str) -> Any:
    """What stands at a path such as spec.containers.0.image; None where there is nothing."""
    value: Any = document
    for part in path.split("."):
        if isinstance(value, list):
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
        else:
            value = (value or {}).get(part)
    return value


def environment(objects: list[Document]) -> dict[str, str | None]:
    (container,) = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


POD, CONTAINER = "spec.template.spec", "spec.template.spec.containers.0"
LIMITS = {"limits": {"memory": "1Gi"}}
TOLERATIONS = [{"key": "a", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("values", "kind", "path", "want"),
    [
        ({}, "Deployment", "spec.replicas", 1),
        ({}, "Deployment", "spec.strategy.type", "Recreate"),
        ({}, "Deployment", f"{POD}.securityContext.runAsNonRoot", True),
        ({}, "Deployment", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", True),
        ({}, "Deployment", f"{CONTAINER}.image", "ghcr.io/crewrun/operator:0.2.0"),
        ({"operator": {"image": {"tag": "x"}}}, "Deployment", f"{CONTAINER}.image", "ghcr.io/crewrun/operator:x"),
        (
            {"operator": {"image": {"tag": "x", "digest": DIGEST}}},
            "Deployment",
            f"{CONTAINER}.image",
            f"ghcr.io/crewrun/operator@{DIGEST}",
        ),
        ({"operator": {"resources": LIMITS}}, "Deployment", f"{CONTAINER}.resources.limits", LIMITS["limits"]),
        ({"operator": {"tolerations": TOLERATIONS}}, "Deployment", f"{POD}.tolerations", TOLERATIONS),
        ({"operator": {"priorityClassName": "high"}}, "Deployment", f"{POD}.priorityClassName", "high"),
        ({"operator": {"podLabels": {"a": "b"}}}, "Deployment", "spec.template.metadata.labels.a", "b"),
        ({"commonLabels": {"team": "x"}}, "Deployment", "metadata.labels.team", "x"),
        ({"commonLabels": {"team": "x"}}, "Service", "metadata.labels.team", "x"),
        ({"imagePullSecrets": [{"name": "r"}]}, "Deployment", f"{POD}.imagePullSecrets", [{"name": "r"}]),
        ({"serviceAccount": {"annotations": {"a": "b"}}}, "ServiceAccount", "metadata.annotations.a", "b"),
        ({"operator": {"podDisruptionBudget": {"enabled": True}}}, "PodDisruptionBudget", "spec.maxUnavailable", 1),
        ({"reports": {"enabled": False}}, "Service", "spec.ports.1", None),
        ({}, "Service", "spec.ports.1.port", 8443),
        (
            {"reports": {"tls": {"source": "Secret", "secretName": "mine"}}},
            "Deployment",
            f"{POD}.volumes.1.secret.secretName",
            "mine",
        ),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "10s"}}},
            "ServiceMonitor",
            "spec.endpoints.0.interval",
            "10s",
        ),
        ({"networkPolicy": {"operator": {"enabled": True}}}, "NetworkPolicy", "spec.policyTypes.1", "Egress"),
    ],
)
def test_a_value_is_found_where_it_belongs(values: Document, kind: str, path: str, want: object) -> None:
    assert at(named(render(values), kind), path) == want


@pytest.mark.parametrize(
    ("values", "variable", "want"),
    [
        ({}, "CREWRUN_NAMESPACES", "[]"),
        ({"watch": {"namespaces": ["a", "b"]}}, "CREWRUN_NAMESPACES", '["a","b"]'),
        ({"runner": {"image": {"repository": "r.io/x", "tag": "1"}}}, "CREWRUN_RUNNER_IMAGE", "r.io/x:1"),
        ({}, "CREWRUN_REPORTS_URL", "https://crewrun.crewrun-system.svc:8443"),
        ({"reports": {"enabled": False}}, "CREWRUN_REPORTS_URL", None),
        ({"operator": {"workers": 3}}, "CREWRUN_WORKERS", "3"),
        ({"operator": {"env": [{"name": "A", "value": "b"}]}}, "A", "b"),
    ],
)
def test_the_operator_is_told(values: Document, variable: str, want: str | None) -> None:
    assert environment(render(values)).get(variable) == want


def test_the_operator_gets_the_policy_that_the_values_say() -> None:
    given_policy = {"secretSources": "ProfileOnly", "images": ["ghcr.io/acme"], "admission": {"enabled": False}}
    told = json.loads(environment(render({"policy": given_policy}))["CREWRUN_POLICY"] or "")
    assert (told["secretSources"], told["images"], "admission" in told) == ("ProfileOnly", ["ghcr.io/acme"], False)


def test_with_namespaces_there_are_roles_in_these_and_nothing_of_the_cluster() -> None:
    without = {"crds": {"enabled": False}, "rbac": {"aggregate": False}, "policy": {"admission": {"enabled": False}}}
    objects = render({"watch": {"namespaces": ["a", "b"]}, **without})
    everywhere = [each["kind"] for each in objects if "namespace" not in each["metadata"]]
    roles = {
        each["metadata"]["namespace"]
        for each in objects
        if each["metadata"]["name"] == "crewrun" and each["kind"] == "Role"
    }
    assert (everywhere, roles) == ([], {"a", "b"})
    rules = named(objects, "Role", namespace="a")["rules"]
    assert rules == [
        rule for rule in named(render({}), "ClusterRole")["rules"] if rule["resources"] != ["tokenreviews"]
    ]


@pytest.mark.parametrize(("keep", "want"), [(True, {"a": "b", "helm.sh/resource-policy": "keep"}), (False, {"a": "b"})])
def test_crds_are_kept_unless_the_values_say_otherwise(keep: bool, want: Document) -> None:
    crds = [
        each for each in render({"crds": {"keep": keep, "annotations": {"a": "b"}}}) if "Definition" in each["kind"]
    ]
    assert [crd["metadata"]["annotations"] for crd in crds] == [want] * len(crds) and len(crds) >= 3
    assert not [each for each in render({"crds": {"enabled": False}}) if "Definition" in each["kind"]]


def test_people_have_roles_that_are_parts_of_kubernetes_own() -> None:
    objects = render({})
    admin = {"crewruns", "crews", "crewprofiles", "crewqueues"}
    for role, want_kinds in {"edit": {"crewruns", "crews"}, "admin": admin}.items():
        found = named(objects, "ClusterRole", f"crewrun-{role}")
        assert found["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{role}"] == "true"
        writes = {kind for rule in found["rules"] if "create" in rule["verbs"] for kind in rule["resources"]}
        assert writes == want_kinds


def test_two_renderings_differ_in_nothing_but_the_certificate_that_helm_makes() -> None:
    secret = {"reports": {"tls": {"source": "Secret", "secretName": "mine"}}}
    assert render(secret) == render(secret)
    first, second = render({}), render({})
    assert [a["kind"] for a, b in zip(first, second, strict=True) if a != b] == ["Secret"]


def test_a_profile_is_made_after_the_crds() -> None:
    spec = {"default": True, "llm": {"model": "openai/gpt-4o"}}
    profile = named(render({"profiles": [{"name": "p", "namespace": "a", "spec": spec}]}), "CrewProfile", "p")
    assert (profile["metadata"]["namespace"], profile["spec"]) == ("a", spec)
    assert "post-install" in profile["metadata"]["annotations"]["helm.sh/hook"]


def test_a_profile_is_a_part_of_the_release_where_its_kind_is_known() -> None:
    known = ("--api-versions", "crewrun.dev/v1alpha1/CrewProfile")
    profiles = [{"name": "p", "namespace": "a", "spec": {}}]
    assert (
        "helm.sh/hook"
        not in named(render({"profiles": profiles}, *known), "CrewProfile", "p")["metadata"]["annotations"]
    )


def test_runners_may_go_where_the_values_say_and_to_the_operator() -> None:
    egress = [{"ports": [{"protocol": "TCP", "port": 9000}]}]
    values = {"networkPolicy": {"runners": {"enabled": True, "namespaces": ["a"]}}, "runner": {"egress": egress}}
    rules = named(render(values), "NetworkPolicy", "crewrun-runners", "a")["spec"]["egress"]
    assert [rule["ports"][0]["port"] for rule in rules] == [53, 8443, 8000, 9000]


@pytest.mark.parametrize(
    ("values", "want_path"),
    [
        ({"operator": {"workers": 0}}, "/operator/workers"),
        ({"operator": {"worker": 3}}, "/operator"),
        ({"operatr": {}}, "operatr"),
        ({"operator": {"image": {"digest": "latest"}}}, "/operator/image/digest"),
        ({"operator": {"logLevel": "debug"}}, "/operator/logLevel"),
        ({"watch": {"namespaces": ["A_b"]}}, "/watch/namespaces/0"),
        ({"policy": {"secretSources": "None"}}, "/policy/secretSources"),
        ({"crds": {"keep": "maybe"}}, "/crds/keep"),
        ({"profiles": [{"name": "a"}]}, "/profiles/0"),
        ({"reports": {"tls": {"source": "Secret"}}}, "/reports/tls/secretName"),
        ({"networkPolicy": {"runners": {"enabled": True}}}, "/networkPolicy/runners/namespaces"),
        ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "/monitoring/serviceMonitor/interval"),
        ({"operator": {"resources": {"limits": {"memory": "1 GB"}}}}, "/operator/resources/limits/memory"),
        ({"operator": {"resources": {"limit": {}}}}, "/operator/resources"),
        ({"operator": {"env": [{"name": "A", "value": 1}]}}, "/operator/env/0/value"),
        ({"operator": {"volumeMounts": [{"name": "a"}]}}, "/operator/volumeMounts/0"),
        ({"operator": {"workers": None}}, "/operator': missing property 'workers'"),
        ({"policy": None}, "missing property 'policy'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(values: Document, want_path: str) -> None:
    assert want_path in refusal(values)


# What the schema leaves to Kubernetes is drawn from samples that Kubernetes takes; so are names of what must be there.
PREFERENCE = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": PREFERENCE}]}
SAMPLES: dict[str, list[Any]] = {
    "resources": [{}, {"requests": {"cpu": 0.5}}, {"limits": {"memory": "1Gi"}}],
    "env": [
        [],
        [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    ],
    "volumes": [[], [{"name": "more", "emptyDir": {}}]],
    "volumeMounts": [[]],
    "tolerations": [[], [{"operator": "Exists"}], [{"key": "a", "operator": "Equal", "value": "b"}]],
    "affinity": [{}, {"nodeAffinity": PREFERRED}],
    "topologySpreadConstraints": [[], [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]],
    "egress": [[], [{}], [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]],
    "spec": [{}, {"default": True}],
    "namespaces": [[], ["crewrun-system"], ["default", "crewrun-system"]],
    "namespace": ["default", "crewrun-system"],
}
#: Admission of a Pod asks for its service account, which a dry run does not make.
LATER = ("Pod",)
#: Kinds that belong to others, and are installed for this test.
FOREIGN = ("cert-manager", "prometheus-operator")


#: What people can write into a file of values.
WRITTEN = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cc", "Cs"])


def drawn(node: Document, definitions: Document) -> st.SearchStrategy[Any]:
    """Values that a part of the schema takes. Every key may be left out, as people do."""
    node = definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node["type"] == "object":
        if "properties" in node:
            parts = {
                name: st.sampled_from(SAMPLES[name]) if name in SAMPLES and "type" in part else drawn(part, definitions)
                for name, part in node["properties"].items()
                if name != "global"  # Helm's own
            }
            required = {name for name in parts if "default" not in node["properties"][name]}
            return st.fixed_dictionaries(
                {name: parts[name] for name in required}, optional={n: p for n, p in parts.items() if n not in required}
            )
        ((pattern, value),) = node["patternProperties"].items()
        return st.dictionaries(st.from_regex(pattern, fullmatch=True), drawn(value, definitions), max_size=2)
    if node["type"] == "array":
        return st.lists(drawn(node["items"], definitions), max_size=2)
    if node["type"] == "string":
        text = st.from_regex(node["pattern"], fullmatch=True) if "pattern" in node else st.text(WRITTEN, max_size=20)
        return text.filter(lambda value: len(value) <= node.get("maxLength", 99))
    return st.integers(node["minimum"], node["maximum"]) if node["type"] == "integer" else st.booleans()


SCHEMA = schema()
TOGETHER = jsonschema_rs.validator_for({"allOf": SCHEMA["allOf"]})
VALUES = drawn(SCHEMA, SCHEMA["$defs"]).filter(TOGETHER.is_valid)


@pytest.fixture(scope="module")
def prepared(kube: Kube) -> Iterator[Kube]:
    kube.within(NAMESPACE)
    install_crds(kube, FOREIGN)
    yield kube


@settings(
    max_examples=int(os.environ.get("CREWRUN_CHART_EXAMPLES", "25")),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example costs a second: too much to shrink one
    suppress_health_check=list(HealthCheck),
)
@given(values=VALUES)
def test_what_the_schema_takes_renders_and_is_taken_by_the_api_server(prepared: Kube, values: Document) -> None:
    items = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [each for each in render(values) if each["kind"] not in LATER],
    }
    # Without a namespace of its own, since the objects have several.
    command = [
        str(ensure_tool("kubectl")),
        "--kubeconfig",
        str(prepared.kubeconfig),
        "apply",
        "--dry-run=server",
        "-f",
        "-",
    ]
    done = subprocess.run(command, input=json.dumps(items), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
