"""The policy in the operator: what begins, what goes on, and what a webhook is told."""

from typing import Any

import pytest

from crewrun_api.policy import UNBOUNDED, Policy, SecretSources
from crewrun_api.reasons import ConditionType, Phase
from crewrun_operator.refused import Refused
from crewrun_operator.status import condition
from crewrun_operator.store import Store
from crewrun_operator.validate import Accepted, accept
from crewrun_operator.views import ConfigMapView
from tests.unit.builders import (
    DEFAULTS,
    DEFINITION,
    CrewBuilder,
    PodBuilder,
    ProfileBuilder,
    RecordBuilder,
    RunBuilder,
    Scene,
    classic_files,
)

STRICT = UNBOUNDED.model_copy(update={"secret_sources": SecretSources.PROFILE_ONLY})
KEY = {"name": "key", "key": "k"}
SECRET = {"name": "K", "secretKeyRef": KEY}


def asked(
    policy: Policy, run: dict[str, Any], crew: dict[str, Any], profile: dict[str, Any]
) -> Accepted | tuple[str, str]:
    """What the operator says of a run of these layers."""
    store = Store(DEFAULTS, policy)
    store.put_run(RunBuilder().spec(**run).build())
    store.put_crew(CrewBuilder().spec(**crew).build())
    store.put_profile(ProfileBuilder().spec(default=True, **profile).build())
    observed = store.observe(("team-a", "report"))
    assert observed is not None
    try:
        return accept(observed)
    except Refused as refused:
        return str(refused.reason), str(refused)


RUN, CREW, PROFILE = "spec", "Crew/research: spec", "CrewProfile/production: spec"
LAYERS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ({"images": ["acme"]}, {}, {}, {"pod": {"image": "evil/x"}}, f"{PROFILE}.pod.image: this image is not"),
    ({"images": ["acme"]}, {}, {"pod": {"image": "evil/x"}}, {}, f"{CREW}.pod.image: "),
    ({"images": ["acme"]}, {"pod": {"image": "evil/x"}}, {"pod": {"image": "acme/x"}}, {}, f"{RUN}.pod.image: "),
    ({"images": ["acme"]}, {}, {"definition": None, "entrypoint": {"target": "a:B", "image": "evil/x"}}, {},
     f"{CREW}.entrypoint.image: "),
    ({"service_accounts": ["crews"]}, {}, {}, {}, f"{RUN}.pod.serviceAccountName: must be given: without it"),
    ({"service_accounts": ["default"]}, {}, {}, {"pod": {"serviceAccountName": "x"}},
     f"{PROFILE}.pod.serviceAccountName: "),
    ({"runtime_classes": ["gvisor"]}, {"pod": {"runtimeClassName": "x"}}, {}, {}, f"{RUN}.pod.runtimeClassName: "),
    ({"volume_types": ["secret"]}, {}, {}, {"pod": {"volumes": [{"name": "v", "emptyDir": {}}]}},
     f"{PROFILE}.pod.volumes[0]: "),
]  # fmt: skip


@pytest.mark.parametrize(("bounds", "run", "crew", "profile", "want"), LAYERS)
def test_the_layer_is_named_that_asks_for_more_than_the_policy_allows(
    bounds: Any, run: Any, crew: Any, profile: Any, want: str
) -> None:
    told = asked(UNBOUNDED.model_copy(update=bounds), run, crew, profile)
    assert not isinstance(told, Accepted), told
    assert told[0] == "Forbidden" and told[1].startswith(want)


FINE: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"images": ["acme", DEFAULTS["pod"]["image"]]}, {}, {}),
    ({"images": ["acme"]}, {"pod": {"image": "acme/x"}}, {"pod": {"image": "evil/x"}}),
    ({"service_accounts": ["crews"]}, {"pod": {"serviceAccountName": "crews"}}, {}),
    ({"runtime_classes": ["gvisor"]}, {}, {}),
    ({"secret_sources": SecretSources.PROFILE_ONLY}, {}, {"secrets": [SECRET], "env": [{"name": "A", "value": "b"}]}),
]


@pytest.mark.parametrize(("bounds", "run", "profile"), FINE)
def test_what_counts_is_the_pod_that_all_layers_make(bounds: Any, run: Any, profile: Any) -> None:
    assert isinstance(asked(UNBOUNDED.model_copy(update=bounds), run, {}, profile), Accepted)


GATEWAY = {"llm": {"model": "openai/gpt-4o", "baseURL": "https://gateway.test"}}
NO_MODEL = {"llm": {"baseURL": "https://gateway.test", "model": None}}
CLAUDE: dict[str, Any] = {"llm": {"model": "anthropic/claude-3"}}
WITH_CLAUDE = {"definition": {**DEFINITION, "agents": {"writer": {**DEFINITION["agents"]["writer"], **CLAUDE}}}}
LED = [
    (STRICT, CLAUDE, {}, GATEWAY, "spec.llm.model: 'anthropic/claude-3' is not of the provider 'openai', which"),
    (STRICT, {}, CLAUDE, GATEWAY, f"{CREW}.llm.model: "),
    (STRICT, {}, WITH_CLAUDE, NO_MODEL, f"{CREW}.definition.agents.writer.llm: "),
    (STRICT, {}, WITH_CLAUDE, GATEWAY, None),
    (STRICT, {"llm": {"model": "openai/o3"}}, CLAUDE, GATEWAY, None),
    (STRICT, CLAUDE, {}, {}, None),
    (UNBOUNDED, CLAUDE, {}, GATEWAY, None),
]


@pytest.mark.parametrize(("policy", "run", "crew", "profile", "want"), LED)
def test_no_key_is_led_to_the_address_that_a_profile_has_for_another_provider(
    policy: Policy, run: Any, crew: Any, profile: Any, want: str | None
) -> None:
    told = asked(policy, run, crew, profile)
    assert isinstance(told, Accepted) if want is None else not isinstance(told, Accepted) and told[1].startswith(want)


@pytest.mark.parametrize(
    ("path", "want_refused"),
    [
        ("/opt/crewrun", True),
        ("/opt/crewrun/lib", True),
        ("/opt/./crewrun//", True),
        ("/opt", True),
        ("/", True),
        ("/etc/crewrun", True),
        ("/run/crewrun/report", True),
        ("/var/run/crewrun/report/token", True),
        ("/dev/termination-log", True),
        ("/x/../etc/crewrun", True),
        ("/etc/ssl", False),
        ("/opt/crewrun-tools", False),
        ("/home/crewrun/data", False),
    ],
)
def test_nothing_is_mounted_over_what_the_runner_is_and_believes_whatever_the_policy(
    path: str, want_refused: bool
) -> None:
    mount = {"pod": {"volumeMounts": [{"name": "v", "mountPath": path}]}}
    secret = {"secrets": [{"mountPath": path, "secretName": "x"}]}
    for layer, where in ((mount, "pod.volumeMounts[0]"), (secret, "secrets[0]")):
        told = asked(UNBOUNDED, {}, {}, layer)
        if want_refused:
            assert not isinstance(told, Accepted), told
            assert told[0] == "InvalidSpec" and told[1].startswith(f"{PROFILE}.{where}.mountPath: ")
        else:
            assert isinstance(told, Accepted), told


def test_a_profile_that_allows_python_does_not_under_profile_only() -> None:
    crew = {"definition": {**DEFINITION, "before_kickoff_callbacks": ["os.system"]}}
    assert isinstance(asked(UNBOUNDED, {}, crew, {"allowPython": True}), Accepted)
    told = asked(STRICT, {}, crew, {"allowPython": True})
    assert told[0] == "Forbidden" and f"{CREW}.definition.before_kickoff_callbacks" in told[1]  # type: ignore[index]
    accepted = asked(STRICT, {}, {}, {"allowPython": True})
    assert isinstance(accepted, Accepted) and not accepted.resolved.allow_python


def test_a_definition_in_a_configmap_is_held_to_the_same_words() -> None:
    files = classic_files()
    files["agents.yaml"] = files["agents.yaml"].replace("  role:", "  tools: [FileReadTool]\n  role:")
    scene = Scene(crew=CrewBuilder().without("definition").spec(configMap={"name": "c"}).build(), policy=STRICT)
    scene.config_maps = {"c": ConfigMapView(files, 100)}
    scene.settle()
    told = condition(scene.status, ConditionType.ACCEPTED)
    assert told is not None and told.reason == "Forbidden" and told.message.startswith("ConfigMap/c: agents.yaml: line")


# --- Time goes on -----------------------------------------------------------------------------------------------


def accepted_before(**spec: Any) -> Scene:
    """A run with a Secret that runs, when the operator starts again with a stricter policy."""
    scene = Scene(RunBuilder().spec(secrets=[SECRET], **spec).build())
    scene.settle()
    scene.later(2).pod(PodBuilder().running()).settle()
    return scene.restart(STRICT)


def test_a_run_that_was_accepted_goes_on_under_a_stricter_policy_and_is_tried_again() -> None:
    scene = accepted_before()
    scene.later(2).edit(suspend=False).settle()
    assert scene.status.phase is Phase.RUNNING
    assert condition(scene.status, ConditionType.SPEC_CHANGED) is None
    scene.pod(PodBuilder().ended(20, RecordBuilder().failed().text())).job_ends(1).settle()
    scene.later(60).settle()
    assert (scene.status.phase, len(scene.made)) == (Phase.STARTING, 2)


def test_a_job_that_was_recorded_and_not_made_is_made_under_a_stricter_policy() -> None:
    scene = Scene(RunBuilder().spec(secrets=[SECRET]).build())
    scene.carry_out(scene.decide(), without_job=True)
    scene.restart(STRICT).settle()
    assert (scene.status.phase, len(scene.made)) == (Phase.STARTING, 1)


def test_a_run_that_was_accepted_without_python_has_the_same_digest_when_it_is_no_longer_judged() -> None:
    store = Store(DEFAULTS, STRICT)
    store.put_run(RunBuilder().build())
    store.put_crew(CrewBuilder().build())
    store.put_profile(ProfileBuilder().spec(default=True, allowPython=True).build())
    observed = store.observe(("team-a", "report"))
    assert observed is not None
    assert accept(observed).crew.digest == accept(observed, judged=False).crew.digest


def test_a_rerun_is_judged_anew() -> None:
    scene = accepted_before()
    scene.pod(PodBuilder().ended(0, RecordBuilder().text())).settle()
    assert scene.status.phase is Phase.SUCCEEDED
    scene.edit(rerun="1").settle()
    told = condition(scene.status, ConditionType.ACCEPTED)
    assert told is not None and (told.status, told.reason) == ("False", "Forbidden")
    assert scene.status.phase is Phase.PENDING and len(scene.made) == 1


@pytest.mark.parametrize(
    ("webhook", "want"),
    [
        ({"url": "https://x.test"}, None),
        ({"urlFrom": KEY}, "the webhook is not told: spec.onSuccess.webhook.urlFrom: crews and runs may not"),
        (
            {"url": "https://x.test", "headersFrom": [{"name": "A", "secretKeyRef": KEY}]},
            "the webhook is not told: spec.onSuccess.webhook.headersFrom: ",
        ),
    ],
)
def test_a_webhook_that_is_edited_in_later_sends_no_secret(webhook: Any, want: str | None) -> None:
    scene = Scene(policy=STRICT)
    scene.settle()
    scene.later(2).pod(PodBuilder().running()).settle()
    scene.edit(onSuccess={"webhook": webhook})
    scene.pod(PodBuilder().ended(0, RecordBuilder().text())).settle()
    told = scene.status.webhook
    assert told is not None
    assert (len(scene.made) == 2) if want is None else (len(scene.made) == 1 and told.message.startswith(want))
