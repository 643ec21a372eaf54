"""The health of a run as Argo CD and Flux see it: by the Lua and CEL of the examples, over statuses of the operator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from lupa.lua51 import LuaRuntime

from crewrun_api.reasons import ConditionType, Phase, Reason
from crewrun_api.run import RunStatus
from crewrun_operator.status import as_document, settle
from tests.unit.builders import NOON, CrewBuilder, PodBuilder, RecordBuilder, RunBuilder, Scene

GITOPS = Path(__file__).parents[2] / "examples/gitops"
CLASSIC = Path(__file__).parents[2] / "examples/classic"
CUSTOMIZATION = "resource.customizations.health.crewrun.dev_CrewRun"
Document = dict[str, Any]

#: What Argo CD and Flux make of a phase that the spec's generation was decided on.
WANT = {
    Phase.PENDING: ("Progressing", "InProgress"),
    Phase.QUEUED: ("Progressing", "InProgress"),
    Phase.STARTING: ("Progressing", "InProgress"),
    Phase.RUNNING: ("Progressing", "InProgress"),
    Phase.BACKING_OFF: ("Progressing", "InProgress"),
    Phase.SUSPENDED: ("Suspended", "Current"),
    Phase.CANCELLING: ("Progressing", "InProgress"),
    Phase.SUCCEEDED: ("Healthy", "Current"),
    Phase.FAILED: ("Degraded", "Failed"),
    Phase.CANCELLED: ("Healthy", "Current"),
}


@pytest.fixture(scope="module")
def argo_cd() -> Callable[[Document], tuple[str, str]]:
    """Argo CD's health of an object: it has Lua's base and table libraries and no other."""
    script = yaml.safe_load((GITOPS / "argocd/argocd-cm.yaml").read_text())["data"][CUSTOMIZATION]

    def health(run: Document) -> tuple[str, str]:
        lua = LuaRuntime(unpack_returned_tuples=True)
        lua.execute("string, io, os, debug, math, require, dofile, loadfile = nil")
        lua.globals().obj = lua.table_from(run, recursive=True)
        found = lua.execute(script)
        return found.status, found.message

    return health


@pytest.fixture(scope="module")
def flux() -> Callable[[Document], str]:
    """Flux asks in this order, and waits where nothing says true."""
    kustomization = [*yaml.safe_load_all((GITOPS / "flux/crews.yaml").read_text())][1]
    (check,) = kustomization["spec"]["healthCheckExprs"]

    def health(run: Document) -> str:
        for verdict in ("InProgress", "Failed", "Current"):
            if cel.evaluate(check[verdict[0].lower() + verdict[1:]], run):
                return verdict
        return "InProgress"

    return health


def kstatus(run: Document) -> str:
    """What tools make of a run that nobody told them about: kstatus, as far as it concerns conditions of ours."""
    status = run["status"]
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    if status["observedGeneration"] != run["metadata"]["generation"] or conditions.get("Reconciling") == "True":
        return "InProgress"
    return "Failed" if conditions.get("Stalled") == "True" else "Current"


@pytest.mark.parametrize("phase", Phase)
def test_each_phase_has_a_health(argo_cd: Any, flux: Any, phase: Phase) -> None:
    run = RunBuilder().status(settle(RunStatus(), phase, "Reason", "why it is so", NOON, 1)).build()
    want_argo_cd, want_flux = WANT[phase]
    assert argo_cd(run) == (want_argo_cd, f"{phase}: why it is so")
    assert (flux(run), kstatus(run)) == (want_flux, want_flux)


def waiting(**spec: Any) -> Scene:
    """A run whose first attempt has its Job."""
    scene = Scene(RunBuilder().spec(**spec).build())
    return scene.carry_out(scene.decide())


def running(**spec: Any) -> Scene:
    scene = waiting(**spec).later(5).pod(PodBuilder().running())
    scene.settle()
    return scene


def ended(record: RecordBuilder, code: int, **spec: Any) -> Scene:
    scene = running(**spec).pod(PodBuilder().ended(code, record.text()))
    scene.settle()
    return scene


def refused() -> Scene:
    scene = Scene(crew=CrewBuilder().definition(agents={}).build())
    scene.settle()
    return scene


def edited(scene: Scene, **spec: Any) -> Scene:
    scene.edit(**spec).settle()
    return scene


TAKES_LONG = {"retry": {"backoff": {"initialSeconds": 300}}}
LIVES: dict[str, tuple[Callable[[], Scene], Phase | None, str, str]] = {
    "nobody has seen it": (Scene, None, "Progressing", "InProgress"),
    "it is not accepted": (refused, Phase.PENDING, "Degraded", "Failed"),
    "its Job is made": (waiting, Phase.STARTING, "Progressing", "InProgress"),
    "it runs": (running, Phase.RUNNING, "Progressing", "InProgress"),
    "it is told to stop": (lambda: edited(running(), cancel=True), Phase.CANCELLING, "Progressing", "InProgress"),
    "it waits for its second attempt": (
        lambda: ended(RecordBuilder().failed(), 30, **TAKES_LONG),
        Phase.BACKING_OFF,
        "Progressing",
        "InProgress",
    ),
    "it has succeeded": (lambda: ended(RecordBuilder(), 0), Phase.SUCCEEDED, "Healthy", "Current"),
    "it has succeeded and its time to live is changed": (
        lambda: edited(ended(RecordBuilder(), 0), ttlSecondsAfterFinished=600),
        Phase.SUCCEEDED,
        "Healthy",
        "Current",
    ),
    "it has succeeded, and a change of it was not seen yet": (
        lambda: ended(RecordBuilder(), 0).edit(rerun="again"),
        Phase.SUCCEEDED,
        "Progressing",
        "InProgress",
    ),
    "it has failed": (
        lambda: ended(RecordBuilder().failed(Reason.LLM_AUTHENTICATION), 21),
        Phase.FAILED,
        "Degraded",
        "Failed",
    ),
    "it was cancelled before it began": (
        lambda: edited(Scene(RunBuilder().spec(cancel=True).build())),
        Phase.CANCELLED,
        "Healthy",
        "Current",
    ),
    "it is suspended": (
        lambda: edited(Scene(RunBuilder().spec(suspend=True).build())),
        Phase.SUSPENDED,
        "Suspended",
        "Current",
    ),
}


@pytest.mark.parametrize(("life", "want_phase", "want_argo_cd", "want_flux"), LIVES.values(), ids=LIVES.keys())
def test_the_health_of_a_run_when(
    argo_cd: Any,
    flux: Any,
    life: Callable[[], Scene],
    want_phase: Phase | None,
    want_argo_cd: str,
    want_flux: str,
) -> None:
    run = life().run
    status = RunStatus.model_validate(run["status"])
    run["status"] = as_document(status)
    assert status.phase == want_phase
    assert (argo_cd(run)[0], flux(run)) == (want_argo_cd, want_flux)


def test_a_refusal_is_told_with_its_field(argo_cd: Any) -> None:
    run = refused().run
    accepted = next(each for each in run["status"]["conditions"] if each["type"] == ConditionType.ACCEPTED)
    assert argo_cd(run)[1] == f"not accepted: {accepted['message']}"


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"observedGeneration": 1}])
def test_argo_cd_waits_for_a_status(argo_cd: Any, status: Document | None) -> None:
    run = {"metadata": {"generation": 1}, **({} if status is None else {"status": status})}
    assert argo_cd(run) == ("Progressing", "the operator has not seen this spec yet")


def test_kustomize_knows_the_same_fields_as_in_the_classic_example() -> None:
    name = "name-reference.yaml"
    assert (GITOPS / "base" / name).read_text() == (CLASSIC / name).read_text()
