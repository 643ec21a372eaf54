"""The values of the chart: the one source of values.yaml, its schema and the table in the chart's README."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from charts.kubernetes import Document, EnvVar, Resources, Toleration, Volume, VolumeMount
from crewrun_api.policy import Policy as Bounds

_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Label = Annotated[str, StringConstraints(pattern=_LABEL)]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", max_length=253)
]
OptionalName = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?$", max_length=253),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?){0,3}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
    ),
]
ReleaseName = Annotated[str, StringConstraints(pattern=r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$")]
Labels = dict[LabelKey, LabelValue]
Annotations = dict[LabelKey, str]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}(s|m)$")]


class Values(BaseModel):
    """A part of the values: an unknown key is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
    )


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class TLSSource(StrEnum):
    HELM = "Helm"
    CERT_MANAGER = "CertManager"
    SECRET = "Secret"


class Image(Values):
    """An image."""

    repository: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-zA-Z0-9._:/-]*[a-z0-9])?$", max_length=200)] = (
        Field(description="Repository of the image, its registry included.")
    )
    tag: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$")] = Field(
        default="", description="Its tag. Empty: the chart's appVersion."
    )
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[a-f0-9]{64})?$")] = Field(
        default="", description="Its digest, `sha256:...`. Stronger than the tag."
    )
    pull_policy: PullPolicy = Field(default=PullPolicy.IF_NOT_PRESENT, description="When it is pulled.")


class Reference(Values):
    """An object by name."""

    name: Name = Field(description="Its name.")


class Watch(Values):
    """What the operator watches."""

    namespaces: list[Label] = Field(
        default=[],
        max_length=100,
        json_schema_extra={"uniqueItems": True},
        description="Namespaces to watch. The operator then has Roles in these and no right in any other. Empty: the "
        "whole cluster.",
    )


class CRDs(Values):
    """CustomResourceDefinitions."""

    enabled: bool = Field(default=True, description="Whether this release brings the CRDs.")
    keep: bool = Field(default=True, description="Whether they stay after an uninstall, and with them every run.")
    annotations: Annotations = Field(default={}, description="More annotations of the CRDs.")


class DisruptionBudget(Values):
    """PodDisruptionBudget of the operator."""

    enabled: bool = Field(
        default=False, description="Whether the operator has a PodDisruptionBudget, of one disruption at a time."
    )


class Operator(Values):
    """The operator's Deployment."""

    image: Image = Field(default=Image(repository="ghcr.io/crewrun/operator"), description="The operator's image.")
    workers: int = Field(default=32, ge=1, le=256, description="Runs that are worked at the same time.")
    resync_seconds: int = Field(
        default=300, ge=10, le=86_400, description="Seconds between two full lists of everything that is watched."
    )
    log_level: Annotated[str, StringConstraints(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        default="INFO", description="Least level that is logged: DEBUG, INFO, WARNING or ERROR."
    )
    resources: Resources = Field(
        default={"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        description="Requests and limits of its container.",
    )
    env: list[EnvVar] = Field(default=[], description="More environment variables, as in a container.")
    volumes: list[Volume] = Field(default=[], description="More volumes, as in a Pod.")
    volume_mounts: list[VolumeMount] = Field(default=[], description="Where the operator sees them.")
    pod_labels: Labels = Field(default={}, description="More labels of its Pod.")
    pod_annotations: Annotations = Field(default={}, description="More annotations of its Pod.")
    node_selector: Labels = Field(default={}, description="Labels that the operator's node must have.")
    tolerations: list[Toleration] = Field(default=[], description="Taints that the operator tolerates.")
    affinity: Document = Field(default={}, description="Where the operator is placed, or rather placed.")
    topology_spread_constraints: list[Document] = Field(
        default=[], description="How the operator is spread, beside other Pods that the selector names."
    )
    priority_class_name: OptionalName = Field(
        default="", description="PriorityClass of the operator. Empty: the cluster's default."
    )
    pod_disruption_budget: DisruptionBudget = Field(
        default=DisruptionBudget(), description="PodDisruptionBudget of the operator."
    )


class ServiceAccount(Values):
    """The operator's service account."""

    create: bool = Field(default=True, description="Whether the release makes it.")
    name: OptionalName = Field(default="", description="Its name. Empty: the release's, or `default` if none is made.")
    annotations: Annotations = Field(default={}, description="Its annotations.")


class RBAC(Values):
    """Roles."""

    create: bool = Field(default=True, description="Whether the release makes the operator's roles and bindings.")
    aggregate: bool = Field(
        default=True,
        description="Whether there are ClusterRoles for people, RELEASE-view, RELEASE-edit and RELEASE-admin, that are "
        "parts of Kubernetes' own view, edit and admin.",
    )


class Issuer(Values):
    """An issuer of cert-manager."""

    name: OptionalName = Field(default="", description="Its name. Empty: a self-signed authority that the chart makes.")
    kind: Annotated[str, StringConstraints(pattern="^(Issuer|ClusterIssuer)$")] = Field(
        default="Issuer", description="Issuer or ClusterIssuer."
    )
    group: Name = Field(default="cert-manager.io", description="Its API group.")


class TLS(Values):
    """The certificate of the report endpoint."""

    source: TLSSource = Field(
        default=TLSSource.HELM,
        description="Helm: made by the chart for ten years and found again at each upgrade; it must be rendered with a "
        "cluster at hand, so not for Argo CD or `helm template`. CertManager: a Certificate, which is renewed. "
        "Secret: a Secret of yours.",
    )
    secret_name: OptionalName = Field(
        default="",
        description="Secret of type kubernetes.io/tls with tls.crt, tls.key and ca.crt, for SERVICE.NAMESPACE.svc. "
        "Empty: RELEASE-tls. It must be named with source Secret.",
    )
    issuer_ref: Issuer = Field(default=Issuer(), description="Who signs, with source CertManager.")
    duration_hours: int = Field(
        default=2160, ge=24, le=87_600, description="How long a certificate of cert-manager is valid, hours."
    )


class Reports(Values):
    """What runners tell the operator: progress, checkpoints, results."""

    enabled: bool = Field(
        default=True,
        description="Whether runners report. Without, a run works by the state of its Job and Pod alone, and each "
        "attempt starts from scratch.",
    )
    tls: TLS = Field(default=TLS(), description="The certificate that runners trust.")


class Admission(Values):
    """The policy at the API server."""

    enabled: bool = Field(
        default=True,
        description="Whether ValidatingAdmissionPolicies refuse what the policy does not allow when it is applied. "
        "The operator refuses it in any case.",
    )


class Policy(Bounds, Values):
    """What runs may ask for."""

    model_config = ConfigDict(frozen=True)

    admission: Admission = Field(default=Admission(), description="The policy at the API server.")


class Runner(Values):
    """Runner Pods."""

    image: Image = Field(
        default=Image(repository="ghcr.io/crewrun/runner"),
        description="Image of runs whose crew and profile name none.",
    )
    egress: list[Document] = Field(
        default=[{"ports": [{"protocol": "TCP", "port": 443}]}],
        description="Where runners may go beside DNS and the operator: egress rules of a NetworkPolicy.",
    )


class OperatorNetworkPolicy(Values):
    """NetworkPolicy of the operator."""

    enabled: bool = Field(
        default=False,
        description="Whether only runners reach the report port, and the operator only DNS and ports 443 and 6443.",
    )


class RunnersNetworkPolicy(Values):
    """NetworkPolicies of runners."""

    enabled: bool = Field(
        default=False, description="Whether runners are bounded to DNS, the operator and `runner.egress`."
    )
    namespaces: list[Label] = Field(
        default=[],
        max_length=100,
        json_schema_extra={"uniqueItems": True},
        description="Namespaces that get such a policy. Empty: those of watch.namespaces.",
    )


class NetworkPolicy(Values):
    """NetworkPolicies. They need a network plug-in that enforces them."""

    operator: OperatorNetworkPolicy = Field(default=OperatorNetworkPolicy(), description="The operator's.")
    runners: RunnersNetworkPolicy = Field(default=RunnersNetworkPolicy(), description="The runners'.")


class Profile(Values):
    """A CrewProfile."""

    name: Name = Field(description="Its name.")
    namespace: Label = Field(description="Its namespace, which must be there.")
    spec: Document = Field(description="Its spec.")


class Monitor(Values):
    """How Prometheus finds the metrics."""

    enabled: bool = Field(
        default=False, description="Whether it is made. It needs the CRDs of the Prometheus operator."
    )
    labels: Labels = Field(default={}, description="Labels by which your Prometheus selects it.")
    interval: Duration = Field(default="30s", description="How often metrics are read.")


class Rules(Values):
    """Recording rules and alerts."""

    enabled: bool = Field(
        default=False, description="Whether it is made. It needs the CRDs of the Prometheus operator."
    )
    labels: Labels = Field(default={}, description="Labels by which your Prometheus selects it.")


class Dashboard(Values):
    """A dashboard of Grafana."""

    enabled: bool = Field(default=False, description="Whether there is a ConfigMap with a dashboard.")
    labels: Labels = Field(
        default={"grafana_dashboard": "1"}, description="Labels by which Grafana's sidecar finds it."
    )


class Monitoring(Values):
    """Prometheus and Grafana."""

    service_monitor: Monitor = Field(default=Monitor(), description="A ServiceMonitor.")
    pod_monitor: Monitor = Field(default=Monitor(), description="A PodMonitor, for those who have no Services scraped.")
    prometheus_rule: Rules = Field(
        default=Rules(), description="A PrometheusRule: averages and success rate over an hour, and alerts."
    )
    dashboard: Dashboard = Field(default=Dashboard(), description="A dashboard.")


class Test(Values):
    """`helm test`."""

    image: Image = Field(
        default=Image(repository="ghcr.io/crewrun/testing"), description="Image of the scripted model that it runs."
    )


class ChartValues(Values):
    """The values of the chart."""

    name_override: ReleaseName = Field(default="", description="Replaces the chart's name in names and labels.")
    fullname_override: ReleaseName = Field(default="", description="Replaces the names of all objects.")
    common_labels: Labels = Field(default={}, description="More labels of every object.")
    image_pull_secrets: list[Reference] = Field(
        default=[], description="Secrets with which the images of the operator and of `helm test` are pulled."
    )
    watch: Watch = Field(default=Watch(), description="What the operator watches.")
    crds: CRDs = Field(default=CRDs(), description="CustomResourceDefinitions.")
    operator: Operator = Field(default=Operator(), description="The operator.")
    service_account: ServiceAccount = Field(default=ServiceAccount(), description="The operator's service account.")
    rbac: RBAC = Field(default=RBAC(), description="Roles.")
    reports: Reports = Field(default=Reports(), description="What runners tell the operator, over TLS.")
    policy: Policy = Field(default=Policy(), description="What runs may ask for.")
    runner: Runner = Field(default=Runner(), description="Runner Pods.")
    network_policy: NetworkPolicy = Field(
        default=NetworkPolicy(), description="NetworkPolicies. They need a network plug-in that enforces them."
    )
    profiles: list[Profile] = Field(
        default=[],
        description="CrewProfiles that come with the release and are changed in place by an upgrade: name, namespace "
        "and spec.",
    )
    monitoring: Monitoring = Field(default=Monitoring(), description="Prometheus and Grafana.")
    test: Test = Field(default=Test(), description="What `helm test` runs.")
