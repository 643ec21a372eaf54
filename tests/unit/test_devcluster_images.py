"""Images and their archives, tools and packages: what is built, and when it is not built again."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from devcluster import images, packages
from devcluster.archives import config_digests, manifest_digests, normalize
from devcluster.base_image import base_tag, make_commands
from devcluster.binaries import INPUTS, build_once, cache_key, parse_go_version
from devcluster.errors import DevClusterError
from devcluster.ignore import Ignore
from devcluster.images import Image, build_commands, build_image, build_key, prune
from devcluster.loading import is_loaded
from devcluster.paths import GO_MODULE
from devcluster.progress import run_long, run_quick
from devcluster.tools import TOOLS, ensure_tool, install_arguments, tool_folder


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    write(tmp_path / "context", code__a="1", Dockerfile="FROM scratch")
    return Image(tmp_path / "context" / "Dockerfile", tmp_path / "context", "crew:1", tmp_path / "out" / "crew.tar")


@pytest.mark.parametrize(
    ("patterns", "path", "want"),
    [
        (["*.pyc"], "a.pyc", True),
        (["*.pyc"], "deep/a.pyc", False),
        (["**/*.pyc"], "deep/er/a.pyc", True),
        (["**/*.pyc"], "a.pyc", True),
        ([".git"], ".git/objects/aa", True),
        (["/build/"], "build/x", True),
        (["build"], "rebuild", False),
        (["*", "!code"], "code/a.py", False),
        (["*", "!code", "**/__pycache__"], "code/__pycache__/a", True),
        (["# a comment", ""], "# a comment", False),
        (["a?c"], "abc", True),
    ],
)
def test_dockerignore_leaves_out_what_the_builders_leave_out(patterns: list[str], path: str, want: bool) -> None:
    assert Ignore.parse(patterns).matches(path) is want


def edit(image: Image) -> None:
    write(image.context, code__a="2")


def add(image: Image) -> None:
    write(image.context, code__b="1")


def make_executable(image: Image) -> None:
    (image.context / "code" / "a").chmod(0o755)


def edit_dockerfile(image: Image) -> None:
    write(image.context, Dockerfile="FROM alpine")


def link_a_folder(image: Image) -> None:
    (image.context / "linked").symlink_to("code")


@pytest.mark.parametrize("change", [edit, add, make_executable, edit_dockerfile, link_a_folder])
def test_a_changed_input_is_another_image(image: Image, change: Any) -> None:
    before = build_key(image, "buildah")

    change(image)

    assert build_key(image, "buildah") != before


def test_a_touched_or_ignored_file_is_the_same_image(image: Image) -> None:
    write(image.context, **{".dockerignore": "**/*.log\n"})
    before = build_key(image, "buildah")

    os.utime(image.context / "code" / "a", (1, 1))
    write(image.context, **{"code__x.log": "noise"})

    assert build_key(image, "buildah") == before


def test_an_unchanged_image_is_built_once(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(builder: str, image: Image, archive: Path) -> None:
        built.append(builder)
        archive.write_text("archive")

    monkeypatch.setenv("CREWRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "docker_is_up", lambda: False)
    monkeypatch.setattr(images, "build_with", build)

    assert build_image(image) is True
    assert build_image(image) is False
    image.output.unlink()
    assert build_image(image) is False

    assert built == ["buildah"]
    assert image.output.read_text() == "archive"
    assert [path.name for path in image.output.parent.iterdir()] == [image.output.name]


def test_a_build_without_a_dockerfile_says_where_it_looked(image: Image) -> None:
    image.dockerfile.unlink()

    with pytest.raises(DevClusterError, match=str(image.dockerfile)):
        build_image(image)


@pytest.mark.parametrize(("builder", "want"), [("docker", ["build", "save"]), ("buildah", ["build", "push"])])
def test_each_builder_writes_an_archive_of_the_tag(image: Image, builder: str, want: list[str]) -> None:
    commands = build_commands(builder, image, Path("/cache/x.tar"))

    assert [command[:2] for command in commands] == [[builder, step] for step in want]
    assert "crew:1" in " ".join(commands[1])
    assert "/cache/x.tar" in " ".join(commands[1])


def test_an_archive_for_a_node_has_no_attestations() -> None:
    """containerd refuses an archive that names blobs which `docker save` left out."""
    assert images.build_environment()["BUILDX_NO_DEFAULT_ATTESTATIONS"] == "1"


def test_only_the_latest_archives_of_an_image_are_kept(tmp_path: Path) -> None:
    for age in range(4):
        path = tmp_path / f"aa-{age}.tar"
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "bb-0.tar").touch()

    prune(tmp_path, "aa")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa-0.tar", "aa-1.tar", "bb-0.tar"]


@pytest.mark.parametrize(
    ("tag", "want"),
    [
        ("localhost/crewrun:1", "localhost/crewrun:1"),
        ("python:3.13", "docker.io/library/python:3.13"),
        ("team/app:1", "docker.io/team/app:1"),
        ("registry.example:5000/app:1", "registry.example:5000/app:1"),
    ],
)
def test_a_tag_is_read_as_containerd_writes_it(tag: str, want: str) -> None:
    assert normalize(tag) == want


@pytest.mark.parametrize("config", ["abc.json", "blobs/sha256/abc"])
def test_the_configurations_digest_names_an_images_content(config: str) -> None:
    manifest: Sequence[dict[str, Any]] = [{"Config": config, "RepoTags": ["localhost/a:1"]}]

    assert manifest_digests(manifest) == {"localhost/a:1": "sha256:abc"}


def test_an_archive_is_read_from_its_file(tmp_path: Path) -> None:
    data = json.dumps([{"Config": "abc.json", "RepoTags": ["localhost/a:1"]}]).encode()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))

    assert config_digests(tmp_path / "a.tar") == {"localhost/a:1": "sha256:abc"}


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("no archive")

    with pytest.raises(DevClusterError, match=r"a\.tar is not an image archive"):
        config_digests(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("loaded", "present", "want"),
    [
        ({"a:1": "sha256:x"}, {"a:1", "sha256:x"}, True),
        ({}, {"a:1", "sha256:x"}, False),
        ({"a:1": "sha256:old"}, {"a:1", "sha256:old"}, False),
        ({"a:1": "sha256:x"}, {"sha256:x"}, False),
        ({"a:1": "sha256:x"}, {"a:1"}, False),
    ],
)
def test_an_image_is_loaded_again_unless_the_very_same_is_there(
    loaded: dict[str, str], present: set[str], want: bool
) -> None:
    assert is_loaded({"a:1": "sha256:x"}, loaded, present) is want


def test_the_base_image_is_another_when_its_recipe_changes() -> None:
    assert base_tag({"customize.sh": b"1"}) != base_tag({"customize.sh": b"2"})
    assert base_tag({"customize.sh": b"1"}) == base_tag({"customize.sh": b"1"})


def test_the_base_image_is_unpacked_before_it_is_finished() -> None:
    assert [Path(command[0]).name for command in make_commands(Path("/tmp/x"))] == [
        "mmdebstrap",
        "customize.sh",
        "tar",
    ]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("go version go1.24rc1 darwin/arm64", (1, 24)),
        ("go version devel +abc", None),
    ],
)
def test_gos_version_is_read_from_what_it_says(text: str, want: tuple[int, int] | None) -> None:
    assert parse_go_version(text) == want


def test_the_cached_binary_depends_on_the_module_the_compiler_and_the_flags() -> None:
    base = ({"go.sum": b"1", "main.go": b"2"}, "go1.26", "-s")
    others = [
        ({"go.sum": b"1", "main.go": b"3"}, "go1.26", "-s"),
        ({"go.sum": b"1", "main.go": b"2"}, "go1.27", "-s"),
        ({"go.sum": b"1", "main.go": b"2"}, "go1.26", "-w"),
    ]

    assert len({cache_key(*base), *(cache_key(*other) for other in others)}) == 4
    assert all((GO_MODULE / name).is_file() for name in INPUTS)


def test_a_build_that_fails_leaves_no_binary_behind(tmp_path: Path) -> None:
    folder = tmp_path / "tool-1"

    def fail(target: Path) -> None:
        (target / "half").touch()
        raise DevClusterError("the build failed")

    with pytest.raises(DevClusterError):
        build_once(folder, fail, what="tool")
    assert not folder.exists()

    build_once(folder, lambda target: (target / "whole").touch(), what="tool")
    assert [path.name for path in folder.iterdir()] == ["whole"]


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_tool_is_pinned_and_its_folder_follows_the_version(name: str) -> None:
    tool = TOOLS[name]

    assert install_arguments(tool)[-1] == f"{tool.package}@{tool.version}"
    assert tool_folder(name, tool, "go1.26") != tool_folder(name, tool, "go1.27")


def test_an_unknown_tool_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DevClusterError, match="helm"):
        ensure_tool("terraform")


def test_missing_packages_are_those_whose_program_is_not_there() -> None:
    there = {"runc", "nft", "/usr/lib/cni/bridge"}

    assert packages.missing(packages.NODE, lambda probe: probe if probe in there else None) == [
        "containerd",
        "iproute2",
        "conntrack",
        "buildah",
    ]


def test_without_root_the_exact_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find", lambda probe: None)
    monkeypatch.setattr(packages, "find_program", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(DevClusterError, match="sudo apt-get install -y --no-install-recommends buildah"):
        packages.ensure(["buildah"])


@pytest.mark.parametrize("there_before", [True, False])
def test_no_service_starts_while_packages_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool
) -> None:
    policy = tmp_path / "policy-rc.d"
    if there_before:
        policy.write_text("theirs")
    monkeypatch.setattr(packages, "POLICY", policy)

    with packages.no_services():
        assert policy.exists()

    assert policy.exists() is there_before


def test_a_failed_command_shows_its_last_lines_and_where_the_rest_is(tmp_path: Path) -> None:
    log = tmp_path / "build.log"

    with pytest.raises(DevClusterError, match=r"(?s)building failed.*exit code 3.*no space left.*build\.log") as told:
        run_long(
            [sys.executable, "-c", "print('no space left'); raise SystemExit(3)"],
            what="building",
            log=log,
            hint="free some space",
        )

    assert told.value.hint == "free some space"


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(DevClusterError, match="cannot start no-such-command"):
        run_quick(["no-such-command"], what="looking")
