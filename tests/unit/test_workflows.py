"""The workflows on GitHub run what anybody can run: make targets, with few rights and pinned actions.

They cannot run here; `make verify` has actionlint read them.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yaml"))
PINNED = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
WRITES = {
    "release.yaml/publish": {"packages", "id-token"},
    "release.yaml/announce": {"contents"},
}
#: What is not a make target: it speaks to GitHub alone.
OWN = {"gh release create"}


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path.name}/{name}", job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


def steps() -> list[tuple[str, dict[str, Any]]]:
    return [(where, step) for where, job in jobs() for step in job.get("steps", [])]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def made(command: str) -> list[str]:
    """The targets of a make command; variables are no targets."""
    return [word for word in command.split()[1:] if "=" not in word]


def test_there_are_a_check_and_a_release() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yaml", "release.yaml"]


def test_every_command_is_a_make_target_that_exists() -> None:
    for where, step in steps():
        for line in step.get("run", "").splitlines():
            if any(line.startswith(own) for own in OWN):
                continue
            assert line.startswith("make "), f"{where}: {line}"
            assert set(made(line)) <= targets(), f"{where}: {line}"


@pytest.mark.parametrize(
    "want", ["lint", "verify", "unit", "runner-test", "integration", "e2e", "images", "chart", "sbom", "push", "sign"]
)
def test_no_step_is_forgotten(want: str) -> None:
    assert want in {target for _, step in steps() for target in made(step.get("run", ""))}


def test_the_suite_runs_on_kind() -> None:
    assert load(FOLDER / "ci.yaml")["jobs"]["e2e"]["env"] == {"CLUSTER": "kind"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_at_most(path: Path) -> None:
    assert load(path)["permissions"] in ({}, {"contents": "read"})


def test_a_job_may_write_only_what_it_is_for() -> None:
    found = {}
    for where, job in jobs():
        writes = {right for right, level in job.get("permissions", {}).items() if level != "read"}
        if writes:
            found[where] = writes
    assert found == WRITES


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.*)", path.read_text()):
            action, _, comment = line.partition(" # ")
            if not action.startswith("./"):
                assert PINNED.match(action), f"{path.name}: {line}"
                assert re.match(r"^v\d", comment), f"{path.name}: {line}"


def test_an_action_has_one_version_everywhere() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    found = set(re.findall(r"uses: (\S+)@([0-9a-f]{40})", text))
    assert len(found) == len({action for action, _ in found})


def test_nothing_from_outside_becomes_a_part_of_a_command() -> None:
    """`${{ }}` is pasted into the script before the shell sees it; an environment variable is not."""
    assert not [step["run"] for _, step in steps() if "${{" in step.get("run", "")]


def test_the_token_goes_to_the_registry_and_to_gh_alone() -> None:
    holders = [(where, step) for where, step in steps() if "github.token" in str(step) or "secrets." in str(step)]
    assert [(where, step.get("uses", "gh").partition("@")[0]) for where, step in holders] == [
        ("release.yaml/publish", "docker/login-action"),
        ("release.yaml/announce", "gh"),
    ]
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_foreign_code_runs_with_rights() -> None:
    """`pull_request_target` would run a stranger's change with this repository's token."""
    for path in WORKFLOWS:
        assert "pull_request_target" not in path.read_text()


def test_every_job_ends() -> None:
    assert not [where for where, job in jobs() if "steps" in job and "timeout-minutes" not in job]
