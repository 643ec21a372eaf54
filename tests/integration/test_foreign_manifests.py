"""What the examples say to other projects' kinds fits the schemas of these, on a real API server."""

from pathlib import Path

import pytest
import yaml

from tests.support.foreign_crds import install_crds
from tests.support.kube import Document, Kube

EXAMPLES = Path(__file__).parents[2] / "examples"
PROJECTS = (
    *("argo-cd", "external-secrets", "flux-helm", "flux-kustomize", "flux-source"),
    *("karpenter", "keda", "kueue", "sealed-secrets"),
)
NAMESPACES = ("argocd", "crews-production", "crewrun-scaling", "crewrun-system", "flux-system", "research")
KINDS = {
    "gitops/argocd/crewrun.yaml": ["Application"],
    "gitops/argocd/crews.yaml": ["Application"],
    "gitops/argocd/argocd-cm.yaml": ["ConfigMap"],
    "gitops/flux/crewrun.yaml": ["Namespace", "OCIRepository", "HelmRelease"],
    "gitops/flux/crews.yaml": ["GitRepository", "Kustomization"],
    "kueue/queues.yaml": ["ResourceFlavor", "ClusterQueue", "LocalQueue", "WorkloadPriorityClass"],
    "scaling/cluster-autoscaler/profile.yaml": ["CrewProfile"],
    "scaling/hpa/hpa.yaml": ["HorizontalPodAutoscaler"],
    "scaling/karpenter/nodepool.yaml": ["NodePool"],
    "scaling/karpenter/profile.yaml": ["CrewProfile"],
    "scaling/keda/scaledjob.yaml": ["ScaledJob"],
    "scaling/keda/scaledobject.yaml": ["ScaledObject"],
    "scaling/placeholders.yaml": ["Namespace", "PriorityClass", "Deployment"],
    "secrets/external-secrets/llm-keys.yaml": ["ServiceAccount", "SecretStore", "ExternalSecret"],
    "secrets/sealed-secrets/llm-keys.yaml": ["SealedSecret"],
    "secrets/sops/flux.yaml": ["Kustomization"],
    "secrets/sops/llm-keys.enc.yaml": ["Secret"],
}


@pytest.fixture(scope="module")
def knowing(kube: Kube) -> Kube:
    """A cluster that knows the kinds of these projects, and has their namespaces."""
    install_crds(kube, PROJECTS)
    for namespace in NAMESPACES:
        kube.within(namespace)
    return kube


def documents(file: str) -> list[Document]:
    """The manifests of a file, as their tool hands them to the API server: sops takes its own part away."""
    found = list(yaml.safe_load_all((EXAMPLES / file).read_text()))
    return [{key: value for key, value in each.items() if key != "sops"} for each in found]


def dry_run(kube: Kube, document: Document) -> tuple[int, str]:
    namespace = document["metadata"].get("namespace", "argocd")
    command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-")
    done = kube.run_kubectl(*command, stdin=yaml.safe_dump(document))
    return done.returncode, done.stderr


@pytest.mark.parametrize(("file", "want_kinds"), KINDS.items(), ids=KINDS.keys())
def test_the_manifests_of_an_example_are_taken(knowing: Kube, file: str, want_kinds: list[str]) -> None:
    found = documents(file)
    assert [each["kind"] for each in found] == want_kinds
    for document in found:
        code, told = dry_run(knowing, document)
        assert code == 0, told


@pytest.mark.parametrize(
    "file", [file for file, kinds in KINDS.items() if kinds[-1] not in ("ConfigMap", "Secret", "WorkloadPriorityClass")]
)
def test_a_field_that_its_project_does_not_know_would_be_seen(knowing: Kube, file: str) -> None:
    document = documents(file)[-1]
    document["spec"]["nobodyKnowsThis"] = True
    code, told = dry_run(knowing, document)
    assert code == 1 and "nobodyKnowsThis" in told


def test_each_manifest_for_another_project_is_checked() -> None:
    secrets = ("secrets/external-secrets", "secrets/sealed-secrets", "secrets/sops")
    tools = ("gitops/argocd", "gitops/flux", "kueue", "scaling", *secrets)
    here = {str(path.relative_to(EXAMPLES)) for tool in tools for path in (EXAMPLES / tool).rglob("*.yaml")}
    not_for_the_api_server = {
        "kueue/run.yaml",  # a name is generated for it
        "scaling/hpa/prometheus-adapter.yaml",  # values of its chart
        "secrets/sops/.sops.yaml",
        "secrets/sops/kustomization.yaml",
    }
    assert here - not_for_the_api_server == KINDS.keys()
