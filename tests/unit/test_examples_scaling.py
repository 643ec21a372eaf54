"""The examples of scaling fit each other and the metrics; their manifests are tested on an API server."""

import re

import pytest
import yaml

from crewrun_api.kinds import ProfileSpec
from crewrun_operator.families import FAMILIES
from crewrun_operator.views import pod_request
from tests.support.scaling import SCALING, Scaler, documents, scalers
from tests.unit.test_monitoring import RECORDED

PROFILES = ("cluster-autoscaler/profile.yaml", "karpenter/profile.yaml")


@pytest.mark.parametrize("scaler", scalers(), ids=lambda scaler: scaler.example)
def test_a_scaler_asks_for_metrics_that_there_are(scaler: Scaler) -> None:
    asked = set(re.findall(r"crewrun[\w:]+", scaler.query))
    assert asked and asked <= RECORDED.keys() | {family.name for family in FAMILIES}


def test_the_scalers_of_one_pool_ask_the_same() -> None:
    assert len({(scaler.query, scaler.each, scaler.most) for scaler in scalers()}) == 1


@pytest.mark.parametrize(("value", "want"), [(0, 0), (1, 1), (4, 1), (5, 2), (20, 5), (300, 50)])
def test_one_placeholder_is_kept_for_four_pods(value: float, want: int) -> None:
    keda, _, hpa = scalers()
    assert (keda.replicas(value), hpa.replicas(value)) == (want, max(1, want))


@pytest.mark.parametrize("file", PROFILES)
def test_a_placeholder_takes_the_place_of_one_runner(file: str) -> None:
    (profile,) = documents(file)
    pod = ProfileSpec.model_validate(profile["spec"]).model_dump(by_alias=True, exclude_unset=True)["pod"]
    want = pod_request([pod], pod["nodeSelector"])
    (job,) = documents("keda/scaledjob.yaml")
    for its in (documents("placeholders.yaml")[2]["spec"], job["spec"]["jobTargetRef"]):
        template = its["template"]["spec"]
        assert pod_request(template["containers"], template["nodeSelector"]) == want
        assert template["tolerations"] == pod["tolerations"]
    assert all(f'node_selector="{want.node_selector}"' in scaler.query for scaler in scalers())


def test_a_placeholder_gives_way_to_every_runner_and_still_brings_a_node() -> None:
    (priority,) = [each for each in documents("placeholders.yaml") if each["kind"] == "PriorityClass"]
    assert -10 <= priority["value"] < 0, "cluster-autoscaler brings no node for Pods of less than -10"
    assert priority["preemptionPolicy"] == "Never"


def test_no_example_sets_replicas_that_a_scaler_sets_too() -> None:
    (deployment,) = [each for each in documents("placeholders.yaml") if each["kind"] == "Deployment"]
    assert "replicas" not in deployment["spec"]


def test_every_file_is_yaml_that_says_what_it_is_for() -> None:
    for file in SCALING.rglob("*.yaml"):
        text = file.read_text()
        assert text.startswith("# ") and [*yaml.safe_load_all(text)]
