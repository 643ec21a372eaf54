"""Runs that a GitOps tool tracks: it would make them again, so their time to live does not count."""

from typing import Any

import pytest

from crewrun_api.reasons import ConditionType
from crewrun_api.run import RunStatus
from crewrun_operator.observed import Plan
from crewrun_operator.status import condition
from crewrun_operator.tracked import tracked_by
from tests.unit.builders import PodBuilder, RecordBuilder, RunBuilder, Scene

TTL = {"ttlSecondsAfterFinished": 60}
ARGO_CD = {"annotations": {"argocd.argoproj.io/tracking-id": "crews:crewrun.dev/CrewRun:team-a/report"}}
FLUX = {"labels": {"kustomize.toolkit.fluxcd.io/name": "crews"}}
INSTANCE = {"labels": {"app.kubernetes.io/instance": "crews"}}

MARKS: dict[str, tuple[dict[str, Any], str | None]] = {
    "nothing": ({}, None),
    "labels of one's own": ({"labels": {"app.kubernetes.io/name": "crews", "team": "a"}}, None),
    "Argo CD's annotation": (ARGO_CD, "TrackedByArgoCD"),
    "Argo CD's own label": ({"labels": {"argocd.argoproj.io/instance": "crews"}}, "TrackedByArgoCD"),
    "Argo CD's default label up to 2.x": (INSTANCE, "TrackedByArgoCD"),
    "a Kustomization of Flux": (FLUX, "TrackedByFlux"),
    "a HelmRelease of Flux": (
        {
            "labels": {"helm.toolkit.fluxcd.io/name": "crews", "app.kubernetes.io/instance": "crews"},
            "annotations": {"meta.helm.sh/release-name": "crews"},
        },
        "TrackedByFlux",
    ),
    "a release of Helm": ({**INSTANCE, "annotations": {"meta.helm.sh/release-name": "crews"}}, "TrackedByHelm"),
    "a hook of Argo CD": (
        {**INSTANCE, "annotations": {**ARGO_CD["annotations"], "argocd.argoproj.io/hook": "PostSync"}},
        None,
    ),
    "a hook of a chart": ({**INSTANCE, "annotations": {"helm.sh/hook": "post-install"}}, None),
    "a hook of Argo CD that Flux applies": ({**FLUX, "annotations": {"helm.sh/hook": "test"}}, "TrackedByFlux"),
}


@pytest.mark.parametrize(("metadata", "want_reason"), MARKS.values(), ids=MARKS.keys())
def test_a_run_is_tracked_by(metadata: dict[str, Any], want_reason: str | None) -> None:
    mark = tracked_by({"metadata": metadata})
    assert (mark.reason if mark else None) == want_reason


def ended(metadata: dict[str, Any], **spec: Any) -> Scene:
    """A run that has just ended, seen through the store, which drops what no decision reads."""
    scene = Scene(RunBuilder().metadata(**metadata).spec(**spec).build())
    scene.carry_out(scene.decide())
    scene.pod(PodBuilder().ended(0, RecordBuilder().text()))
    return scene.carry_out(scene.decide())


def told(status: RunStatus) -> tuple[str, str] | None:
    found = condition(status, ConditionType.TTL_IGNORED)
    return (found.status, found.reason) if found else None


def marked(scene: Scene, **metadata: Any) -> Scene:
    """Somebody changes the labels or annotations of the run."""
    run = scene.run
    for place in ("labels", "annotations"):
        run["metadata"].pop(place, None)
    run["metadata"].update(metadata)
    scene._put_run(run)
    return scene


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_tracked_run_is_kept_and_says_so_once(seconds: int) -> None:
    scene = ended(ARGO_CD, ttlSecondsAfterFinished=seconds).later(seconds)
    plan = scene.decide()
    assert plan.status is not None and not plan.delete_run
    assert told(plan.status) == ("True", "TrackedByArgoCD")
    (notice,) = plan.notices
    assert (notice.type, notice.reason) == ("Warning", "TTLIgnored")
    want = "Argo CD tracks this run (annotation argocd.argoproj.io/tracking-id) and would make it again"
    assert notice.message.startswith(want)
    scene.carry_out(plan)
    assert scene.later(10**7).decide() == Plan(), "and is not asked again"
    assert scene.restart().decide() == Plan(), "not by a new operator either"


@pytest.mark.parametrize(
    ("metadata", "spec"), [(ARGO_CD, {}), ({}, TTL)], ids=["tracked, without a time to live", "not tracked"]
)
def test_nothing_is_written_about_a_run_that_is(metadata: dict[str, Any], spec: dict[str, Any]) -> None:
    plan = ended(metadata, **spec).decide()
    assert (plan.status, plan.notices) == (None, ())


def test_the_time_to_live_counts_when_the_mark_is_gone() -> None:
    scene = ended(FLUX, **TTL)
    scene.settle()
    marked(scene)
    plan = scene.decide()
    assert plan.status is not None and told(plan.status) is None
    scene.carry_out(plan)
    assert scene.decide().status is None
    assert scene.later(60).decide() == Plan(delete_run=True)
    assert marked(scene, **FLUX).decide().delete_run is False


def test_another_tool_is_told_without_another_event() -> None:
    scene = ended(FLUX, **TTL)
    scene.settle()
    plan = marked(scene, **ARGO_CD).decide()
    assert plan.status is not None and told(plan.status) == ("True", "TrackedByArgoCD")
    assert plan.notices == ()


def test_an_edit_of_a_kept_run_is_seen() -> None:
    scene = ended(FLUX, **TTL)
    scene.settle()
    scene.edit(ttlSecondsAfterFinished=5).settle()
    assert scene.status.observed_generation == 2
    found = condition(scene.status, ConditionType.TTL_IGNORED)
    assert found is not None and found.observed_generation == 2


def test_a_rerun_forgets_that_its_end_was_kept() -> None:
    scene = ended(FLUX, **TTL)
    scene.settle()
    plan = scene.edit(rerun="again").decide()
    assert plan.status is not None and plan.start is not None
    assert told(plan.status) is None
