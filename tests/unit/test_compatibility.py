"""Which changes of a CRD would refuse people's manifests, or give them another meaning."""

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import compatibility
from devcluster.compatibility import documents, incompatible
from devcluster.errors import DevClusterError
from devcluster.history import CHART, previous_release

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]


def crd(**spec: Any) -> dict[str, Document]:
    """A CRD whose spec has the fields of `spec`."""
    root = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec, "required": []}}}
    version = {
        "name": "v1",
        "served": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
    }
    names = {"kind": "Crew", "listKind": "CrewList", "plural": "crews", "singular": "crew", "shortNames": ["cr"]}
    return {"crews.x": {"spec": {"scope": "Namespaced", "names": names, "versions": [version]}}}


def field(**schema: Any) -> dict[str, Document]:
    return crd(f={"type": "string", **schema})


def with_spec(**changes: Any) -> dict[str, Document]:
    """The CRD of a field `f`, with these keys beside the spec's fields."""
    document = crd(f={"type": "string"})
    spec = document["crews.x"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec.update(copy.deepcopy(changes))
    return document


def changed(key: str, value: Any) -> dict[str, Document]:
    document = crd()
    document["crews.x"]["spec"][key] = value
    return document


OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
RULE = {"rule": "self.f == 'a'", "message": "must be a"}
NAMES = crd()["crews.x"]["spec"]["names"]


@pytest.mark.parametrize(
    ("old", "new", "want"),
    [
        pytest.param(crd(), {}, "crews.x: the CRD is gone", id="a kind"),
        pytest.param(crd(), changed("scope", "Cluster"), "crews.x: scope Namespaced is now Cluster", id="scope"),
        pytest.param(
            crd(), changed("names", {**NAMES, "plural": "c"}), "crews.x: names.plural crews is now c", id="a name"
        ),
        pytest.param(
            crd(),
            changed("names", {**NAMES, "shortNames": []}),
            "crews.x: names.shortNames has no cr any more",
            id="a short name",
        ),
        pytest.param(crd(), changed("versions", []), "crews.x v1: the version is not served any more", id="a version"),
        pytest.param(crd(f={"type": "string"}), crd(), "spec: the field f is gone", id="a field"),
        pytest.param(
            crd(f={"type": "string"}), crd(g={"type": "string"}), "spec: the field f is gone", id="a field's name"
        ),
        pytest.param(field(), field(type="integer"), "spec.f: type string is now integer", id="a type"),
        pytest.param(field(type="number"), field(type="integer"), "spec.f: type number is now integer", id="no halves"),
        pytest.param(field(), field(enum=["a"]), "spec.f: any other value is not taken any more", id="a new enum"),
        pytest.param(
            field(enum=["a", "b"]), field(enum=["a"]), "spec.f: b is not taken any more", id="less of an enum"
        ),
        pytest.param(field(), field(pattern="^a$"), "spec.f: pattern none is now ^a$", id="a new pattern"),
        pytest.param(field(pattern="a"), field(pattern="b"), "spec.f: pattern a is now b", id="another pattern"),
        pytest.param(field(maxLength=9), field(maxLength=8), "spec.f: maxLength 9 is now 8", id="shorter"),
        pytest.param(field(), field(maximum=8), "spec.f: maximum none is now 8", id="a new bound"),
        pytest.param(field(minimum=0), field(minimum=1), "spec.f: minimum 0 is now 1", id="a higher least"),
        pytest.param(field(default="a"), field(default="b"), "spec.f: default a is now b", id="another default"),
        pytest.param(field(), field(format="date-time"), "spec.f: format none is now date-time", id="a format"),
        pytest.param(with_spec(), with_spec(required=["f"]), "spec: f is required now", id="required"),
        pytest.param(
            crd(f=OPEN),
            crd(f={"type": "object", "properties": {}}),
            "spec.f: fields of any name are not taken any more",
            id="a closed object",
        ),
        pytest.param(
            crd(f=OPEN),
            crd(f={"type": "object", "additionalProperties": {"type": "string"}}),
            "spec.f: values of any shape are not taken any more",
            id="values of one type",
        ),
        pytest.param(
            crd(f={"type": "array", "items": {"type": "string"}}),
            crd(f={"type": "array", "items": {"type": "string", "maxLength": 3}}),
            "spec.f[]: maxLength none is now 3",
            id="in a list",
        ),
        pytest.param(
            crd(f={"type": "object", "additionalProperties": {"type": "string"}}),
            crd(f={"type": "object", "additionalProperties": {"type": "integer"}}),
            "spec.f.*: type string is now integer",
            id="in a map",
        ),
        pytest.param(
            with_spec(),
            with_spec(**{"x-kubernetes-validations": [RULE]}),
            "spec: a new rule: must be a",
            id="a new rule",
        ),
    ],
)
def test_a_change_that_takes_less_is_told_with_its_path(old: Document, new: Document, want: str) -> None:
    (told,) = incompatible(old, new)

    assert told in (want, f"crews.x v1: {want}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({}, crd(), id="a new kind"),
        pytest.param(crd(), crd(f={"type": "string", "maxLength": 1}), id="a new field, bounded as it likes"),
        pytest.param(field(), field(description="Better."), id="a description"),
        pytest.param(field(type="integer"), field(type="number"), id="halves"),
        pytest.param(field(enum=["a"]), field(enum=["a", "b"]), id="more of an enum"),
        pytest.param(field(enum=["a"]), field(), id="no enum any more"),
        pytest.param(field(maxLength=8, minLength=1), field(maxLength=9, minLength=0), id="wider bounds"),
        pytest.param(field(pattern="a"), field(), id="no pattern any more"),
        pytest.param(with_spec(required=["f"]), with_spec(), id="not required any more"),
        pytest.param(with_spec(**{"x-kubernetes-validations": [RULE]}), with_spec(), id="a rule less"),
        pytest.param(
            crd(),
            with_spec(**{"x-kubernetes-validations": [{**RULE, "fieldPath": ".f"}]}),
            id="a rule about a field that is new",
        ),
    ],
)
def test_what_takes_more_is_compatible(old: Document, new: Document) -> None:
    assert incompatible(old, new) == []


def test_no_crd_of_the_tree_is_incompatible_with_itself() -> None:
    found = documents(path.read_text() for path in (ROOT / "crds").glob("*.yaml"))

    assert len(found) >= 3
    assert incompatible(found, copy.deepcopy(found)) == []


# --- The last release -------------------------------------------------------------------------------------------


def git(root: Path, *arguments: str) -> None:
    person = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(root), *person, *arguments], check=True, capture_output=True)


def commit(root: Path, version: str, definition: dict[str, Document]) -> None:
    """A state of the tree: the chart of this version, and this CRD."""
    (root / CHART).parent.mkdir(parents=True, exist_ok=True)
    (root / CHART).write_text(f"version: {version}\n")
    for name, document in definition.items():
        (root / "crds").mkdir(exist_ok=True)
        (root / f"crds/{name}.yaml").write_text(yaml.safe_dump({"metadata": {"name": name}, **document}))
    git(root, "add", ".")
    git(root, "commit", "--allow-empty", "-m", f"{version}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A history: 0.1.0 twice, then 0.2.0 twice."""
    tree = tmp_path / "tree"
    tree.mkdir()
    git(tree, "init")
    commit(tree, "0.1.0", crd())
    commit(tree, "0.1.0", crd(f={"type": "string"}))
    commit(tree, "0.2.0", crd(f={"type": "string"}))
    commit(tree, "0.2.0", crd(f={"type": "string"}, g={"type": "string"}))
    return tree


def test_the_last_release_is_the_last_commit_with_another_version(root: Path, tmp_path: Path) -> None:
    release = previous_release(root)

    assert release.version == "0.1.0"
    assert "f:" in release.text("crds/crews.x.yaml"), "the last state of 0.1.0, not its first"
    assert release.files("crds") == ["crds/crews.x.yaml"]
    assert (release.export(tmp_path / "old", "charts") / CHART).read_text() == "version: 0.1.0\n"


def test_a_version_that_is_not_committed_is_compared_with_the_newest_commit(root: Path) -> None:
    (root / CHART).write_text("version: 0.3.0\n")

    assert previous_release(root).version == "0.2.0"


def test_a_shallow_clone_says_what_to_do(root: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--depth=1", f"file://{root}", str(clone))

    with pytest.raises(DevClusterError, match="fetch --unshallow"):
        previous_release(clone)


def test_a_first_release_has_none_before_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    commit(tmp_path, "0.1.0", crd())

    with pytest.raises(DevClusterError, match=r"no other version than 0\.1\.0"):
        previous_release(tmp_path)


@pytest.mark.parametrize(
    ("fields", "want_code", "want"),
    [
        ({"f": {"type": "string"}}, 0, "CRDs take what those of 0.1.0 took (1 kinds"),
        ({}, 1, "crews.x v1: spec: the field f is gone\npeople's manifests of 0.1.0 would be refused"),
    ],
)
def test_verify_compares_the_tree_with_the_last_release(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, Document],
    want_code: int,
    want: str,
) -> None:
    commit(root, "0.2.0", crd(**fields))
    monkeypatch.chdir(root)

    assert compatibility.main() == want_code
    assert want in "".join(capsys.readouterr())


def test_a_change_on_purpose_is_told_with_its_reason(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(root, "0.2.0", crd())
    monkeypatch.chdir(root)
    monkeypatch.setitem(compatibility.ON_PURPOSE, "crews.x v1: spec: the field f is gone", "nothing ever read it")

    assert compatibility.main() == 0
    assert "the field f is gone (on purpose: nothing ever read it)" in capsys.readouterr().err


def test_a_folder_without_a_history_says_that_nothing_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert compatibility.main() == 0
    assert "NOT COMPARED" in capsys.readouterr().err
