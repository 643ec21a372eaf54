"""Crews and runs from Git, on a real API server: applied, changed, applied again, pruned, kept."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kube import Document, Kube, condition, crew, run
from tests.support.operator import Operator

ROOT = Path(__file__).parents[2]
PART_OF = "app.kubernetes.io/part-of=research-crew"
TRACKED = {"argocd.argoproj.io/tracking-id": "crews:crewrun.dev/CrewRun:x/r"}


@dataclass(frozen=True)
class Checkout:
    """A copy of the example that a test may edit, with one overlay for the namespace of the test."""

    space: Kube
    folder: Path
    overlay: str

    @property
    def path(self) -> str:
        return str(self.folder / "overlays" / self.overlay)

    def kustomization(self, **changes: Any) -> Document:
        file = Path(self.path) / "kustomization.yaml"
        document: Document = {**yaml.safe_load(file.read_text()), **changes}
        file.write_text(yaml.safe_dump(document))
        return document

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def apply(self, *how: str) -> None:
        self.space.kubectl("apply", "-k", self.path, *(how or ("--server-side",)))

    def objects(self) -> list[Document]:
        """All that the overlay holds, as the API server has it."""
        found = self.space.kubectl("get", "-k", self.path, "-o", "json", "--show-managed-fields")
        items: list[Document] = json.loads(found)["items"]
        return items


def checkout(space: Kube, tmp_path: Path, overlay: str) -> Checkout:
    shutil.copytree(ROOT / "examples/gitops", tmp_path / "gitops")
    its = Checkout(space, tmp_path / "gitops", overlay)
    its.kustomization(namespace=space.namespace)
    return its


RUNS = {"development": "smoke", "production": "operators-2026-11"}


@pytest.fixture(params=RUNS)
def either(space: Kube, tmp_path: Path, request: pytest.FixtureRequest) -> Checkout:
    return checkout(space, tmp_path, request.param)


@pytest.fixture
def development(space: Kube, tmp_path: Path) -> Checkout:
    return checkout(space, tmp_path, "development")


@pytest.fixture
def production(space: Kube, tmp_path: Path) -> Checkout:
    return checkout(space, tmp_path, "production")


def goals(space: Kube, found: Document) -> list[str]:
    """What the writer was told by each attempt of a run."""
    jobs = sorted(space.jobs_of(found), key=lambda job: int(job["metadata"]["labels"]["crewrun.dev/attempt"]))
    specs = [json.loads(job["spec"]["template"]["metadata"]["annotations"]["crewrun.dev/spec"]) for job in jobs]
    return [spec["definition"]["agents"]["writer"]["goal"] for spec in specs]


@pytest.mark.parametrize("how", [("--server-side",), ("--server-side=false",)], ids=["server-side", "client-side"])
def test_an_overlay_is_applied_and_applying_it_again_changes_nothing(
    either: Checkout, operator: Operator, how: tuple[str, ...]
) -> None:
    either.apply(*how)
    ended = either.space.await_end(RUNS[either.overlay])
    assert (ended["status"]["phase"], ended["status"]["profile"]) == ("Succeeded", either.overlay)
    before = either.objects()
    assert len(before) == 5
    either.apply(*how)
    assert either.objects() == before, "not even a resourceVersion or a managed field"
    diff = either.space.run_kubectl("diff", "-k", either.path, *how)
    assert (diff.returncode, diff.stdout) == (0, "")
    either.edit("base/tasks.yaml", "Ten facts", "Nine facts")
    assert either.space.run_kubectl("diff", "-k", either.path, *how).returncode == 1, "a change would be seen"


def test_the_operator_owns_nothing_of_what_git_says(either: Checkout, operator: Operator) -> None:
    either.apply()
    either.space.await_end(RUNS[either.overlay])
    writers = {
        (each["manager"], each.get("subresource", ""))
        for found in either.objects()
        if found["apiVersion"].startswith("crewrun.dev/")
        for each in found["metadata"]["managedFields"]
    }
    assert writers == {("kubectl", ""), ("crewrun-operator", "status")}


def test_what_runs_keeps_the_crew_that_it_began_with_and_the_next_run_has_the_new_one(
    production: Checkout, operator: Operator
) -> None:
    for file in ("base/crew.yaml", "overlays/production/runs/2026-11-operators.yaml"):
        production.edit(file, "name: research}", "name: never-ends}")
    production.apply()
    space = production.space
    old = space.await_phase("operators-2026-11", "Running")

    production.edit("base/agents.yaml", "plainly", "in one sentence")
    runs = Path(production.path) / "runs"
    text = (runs / "2026-11-operators.yaml").read_text()
    (runs / "2026-12-operators.yaml").write_text(text.replace("2026-11", "2026-12"))
    resources = production.kustomization()["resources"]
    production.kustomization(resources=[*resources, "runs/2026-12-operators.yaml"])
    production.apply()

    new = space.await_phase("operators-2026-12", "Running")
    still = space.get("crewrun", "operators-2026-11")
    assert still["status"]["phase"] == "Running"
    assert still["status"]["crew"] == old["status"]["crew"]
    assert new["status"]["crew"]["digest"] != old["status"]["crew"]["digest"]
    assert goals(space, still) == ["Explain {topic} plainly"]
    assert goals(space, new) == ["Explain {topic} in one sentence"]


def test_a_run_may_follow_the_files_of_its_crew(development: Checkout, operator: Operator) -> None:
    development.apply()
    space = development.space
    first = space.await_end("smoke")
    development.edit("base/agents.yaml", "plainly", "in one sentence")
    development.apply()
    space.await_run("smoke", lambda found: found["status"]["attemptCount"] == 2)
    second = space.await_end("smoke")
    assert second["status"]["crew"]["digest"] != first["status"]["crew"]["digest"]
    assert goals(space, second) == ["Explain {topic} plainly", "Explain {topic} in one sentence"]
    development.apply()
    assert space.get("crewrun", "smoke")["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


def test_pruning_takes_what_left_git_and_nothing_that_the_operator_made(
    production: Checkout, operator: Operator
) -> None:
    space = production.space
    kinds = ("core/v1/ConfigMap", "core/v1/Pod", "batch/v1/Job", "crewrun.dev/v1alpha1/CrewRun")
    allowed = [f"--prune-allowlist={kind}" for kind in kinds]
    space.apply(run("by-hand", "research"))
    production.space.kubectl("apply", "-k", production.path)
    kept = [space.await_end(name) for name in ("by-hand", "operators-2026-11")]
    jobs = [job["metadata"]["name"] for each in kept for job in space.jobs_of(each)]
    assert len(jobs) == 2

    def prune() -> str:
        return space.kubectl("apply", "-k", production.path, "--prune", "-l", PART_OF, *allowed)

    assert "pruned" not in prune()
    production.edit("base/agents.yaml", "plainly", "in one sentence")
    assert [line.split("-")[0] for line in prune().splitlines() if "pruned" in line] == ["configmap/research"]
    assert [job["metadata"]["name"] for each in kept for job in space.jobs_of(each)] == jobs

    production.kustomization(resources=["../../base", "profile.yaml"])
    (pruned,) = [line for line in prune().splitlines() if "pruned" in line]
    assert pruned == "crewrun.crewrun.dev/operators-2026-11 pruned"
    space.kubectl("wait", "--for=delete", f"job/{jobs[1]}", "--timeout=60s")
    assert [job["metadata"]["name"] for job in space.items("jobs")] == jobs[:1]


def test_no_label_or_annotation_of_a_tool_reaches_what_the_operator_makes(space: Kube, operator: Operator) -> None:
    manifest = run("r", "never-ends")
    manifest["metadata"] |= {
        "labels": {"app.kubernetes.io/instance": "crews", "kustomize.toolkit.fluxcd.io/name": "crews", "team": "a"},
        "annotations": {**TRACKED, "meta.helm.sh/release-name": "crews"},
    }
    space.apply(crew("never-ends"), manifest)
    found = space.await_phase("r", "Running")
    (job,) = space.jobs_of(found)
    (pod,) = space.items("pods")
    for made, want_owner in ((job, ("CrewRun", "r")), (pod, ("Job", job["metadata"]["name"]))):
        text = json.dumps([made["metadata"], made["spec"].get("template", {}).get("metadata")])
        assert not [word for word in ("argocd", "fluxcd", "helm.sh", "/instance", "team") if word in text]
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == (*want_owner, True)


def test_a_run_that_argo_cd_tracks_stays_after_its_time_to_live(space: Kube, operator: Operator) -> None:
    manifest = run("r", "fine", ttlSecondsAfterFinished=1)
    manifest["metadata"]["annotations"] = TRACKED
    space.apply(crew("fine"), manifest)
    kept = space.await_run("r", lambda found: bool(condition(found, "TTLIgnored")))
    assert (condition(kept, "TTLIgnored")["status"], condition(kept, "TTLIgnored")["reason"]) == (
        "True",
        "TrackedByArgoCD",
    )
    space.kubectl("wait", "--for=create", "events", "--field-selector=reason=TTLIgnored", "--timeout=30s")
    space.kubectl("annotate", "crewrun", "r", "argocd.argoproj.io/tracking-id-")
    space.kubectl("wait", "--for=delete", "crewrun/r", "--timeout=60s")
