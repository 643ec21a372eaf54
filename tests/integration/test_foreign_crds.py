"""The CRDs of other projects can be had, and a real API server takes them."""

from tests.support.foreign_crds import SOURCES, install_crds
from tests.support.kube import Kube

KINDS = {
    "alertmanagers.monitoring.coreos.com",
    "applications.argoproj.io",
    "certificates.cert-manager.io",
    "externalsecrets.external-secrets.io",
    "gitrepositories.source.toolkit.fluxcd.io",
    "helmreleases.helm.toolkit.fluxcd.io",
    "issuers.cert-manager.io",
    "clusterqueues.kueue.x-k8s.io",
    "kustomizations.kustomize.toolkit.fluxcd.io",
    "localqueues.kueue.x-k8s.io",
    "nodepools.karpenter.sh",
    "ocirepositories.source.toolkit.fluxcd.io",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
    "scaledjobs.keda.sh",
    "scaledobjects.keda.sh",
    "sealedsecrets.bitnami.com",
    "secretstores.external-secrets.io",
    "servicemonitors.monitoring.coreos.com",
}


def test_the_crds_of_other_projects_are_taken_by_the_api_server(kube: Kube) -> None:
    install_crds(kube, SOURCES)
    known = {name.removeprefix("customresourcedefinition.apiextensions.k8s.io/") for name in _names(kube)}
    assert known >= KINDS, f"missing: {KINDS - known}"


def _names(kube: Kube) -> list[str]:
    return kube.kubectl("get", "crd", "-o", "name").split()
