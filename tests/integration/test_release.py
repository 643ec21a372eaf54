"""A release, built for real: the same commit gives the same images, chart and bills of materials."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import stage
from devcluster.base_image import DOCKER_BASE
from release import chart, images, sbom
from release.identity import Identity, read
from release.products import PRODUCTS, labels, own_platform, python_of

TESTING = PRODUCTS["testing"]
REGISTRY = "localhost/crewrun-release-test"
ELF_AARCH64 = 183


@pytest.fixture(scope="module")
def this() -> Identity:
    """The commit as it stands, under a tag that no other image has."""
    return dataclasses.replace(read(), tag="0.0.0-test")


@pytest.fixture(scope="module")
def twice(this: Identity, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The smallest image, staged and built two times, under two umasks."""
    archives = []
    for umask in (0o022, 0o077):
        before = os.umask(umask)
        try:
            folder = tmp_path_factory.mktemp("release")
            archives += images.build_archives([TESTING], [own_platform()], this, REGISTRY, folder)
        finally:
            os.umask(before)
    return archives


def read_archive(archive: Path) -> tuple[dict[str, Any], list[str], list[tarfile.TarInfo]]:
    """The configuration of an image, the digests of its layers, and the entries of the last of them."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(content(tar, "manifest.json"))
        config = json.loads(content(tar, manifest["Config"]))
        with tarfile.open(fileobj=tar.extractfile(manifest["Layers"][-1])) as layer:
            return config, config["rootfs"]["diff_ids"], layer.getmembers()


def content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def test_the_same_commit_gives_the_same_image(twice: list[Path]) -> None:
    first, second = (read_archive(archive) for archive in twice)
    assert first[1] == second[1], "the layers"
    assert first[0] == second[0], "the configuration"


def test_every_file_of_an_image_has_the_time_of_the_commit_and_can_be_read(twice: list[Path], this: Identity) -> None:
    config, _, found = read_archive(twice[1])
    assert config["created"] == this.created
    assert {entry.mtime for entry in found} == {this.committed}
    assert {entry.mode & 0o044 for entry in found if not entry.issym()} == {0o044}


def test_an_image_has_the_labels_of_its_release(twice: list[Path], this: Identity) -> None:
    found = read_archive(twice[0])[0]["config"]["Labels"]
    base = found["org.opencontainers.image.base.name"]
    assert labels(TESTING, this, base).items() <= found.items()


@pytest.mark.parametrize("machine", stage.MACHINES)
@pytest.mark.parametrize("image", stage.IMAGES)
def test_every_package_of_an_image_has_a_wheel_for_each_machine(image: str, machine: str, tmp_path: Path) -> None:
    """For the Python of the images that are published; nothing is downloaded that the cache has."""
    command = stage.install_command(
        stage.IMAGES[image], tmp_path / "site", python_of(DOCKER_BASE), stage.MACHINES[machine]
    )
    done = subprocess.run([*command, "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_another_machines_context_has_that_machines_code_alone(this: Identity, tmp_path: Path) -> None:
    """Staging runs nothing of the packages, so any machine can do it."""
    images.stage_one(TESTING, "linux/arm64", DOCKER_BASE, REGISTRY, this, tmp_path)
    machines = {path.read_bytes()[18] for path in tmp_path.rglob("*.so")}
    assert machines == {ELF_AARCH64}


def test_a_bill_of_materials_has_what_the_image_has(twice: list[Path], this: Identity, tmp_path: Path) -> None:
    config, _, entries = read_archive(twice[0])
    metadata = {Path(entry.name).parent.name for entry in entries if entry.name.endswith(".dist-info/METADATA")}
    base = config["config"]["Labels"]["org.opencontainers.image.base.name"]

    bill = json.loads(sbom.write(TESTING, this, python_of(base), tmp_path).read_text())

    want = {f"{each['name'].replace('-', '_')}-{each['version']}.dist-info" for each in bill["components"]}
    assert {name.lower() for name in metadata} == want
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("crewrun-testing", this.tag)


def test_a_bill_of_materials_and_a_chart_are_the_same_bytes_again(this: Identity, tmp_path: Path) -> None:
    made = [
        (sbom.write(TESTING, this, "3.13", tmp_path / name), chart.package(this, tmp_path / name))
        for name in ("a", "b")
    ]
    (bill, packaged), (other_bill, other_packaged) = made
    assert bill.read_bytes() == other_bill.read_bytes()
    assert packaged.read_bytes() == other_packaged.read_bytes()


def test_a_packaged_chart_installs_the_images_of_its_version_and_matches_its_digest(
    this: Identity, tmp_path: Path
) -> None:
    packaged = chart.package(this, tmp_path)
    digest = packaged.with_name(f"{packaged.name}.sha256")
    assert digest.read_text() == f"{hashlib.sha256(packaged.read_bytes()).hexdigest()}  {packaged.name}\n"
    rendered = helm("template", "x", str(packaged))
    assert f"ghcr.io/crewrun/operator:{this.tag}" in rendered
    assert f"ghcr.io/crewrun/runner:{this.tag}" in rendered
    shutil.unpack_archive(packaged, tmp_path / "unpacked")
    assert helm("lint", "--strict", "--quiet", str(tmp_path / "unpacked/crewrun")) == ""


def test_the_values_for_a_mirror_leave_no_image_elsewhere(tmp_path: Path) -> None:
    guide = (chart.ROOT / "docs/guides/air-gapped.md").read_text()
    values = tmp_path / "mirror.yaml"
    values.write_text(guide.split("`mirror.yaml`:", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0])
    rendered = helm("template", "x", str(chart.CHART), "--values", str(values))
    assert rendered.count("registry.example.com/crewrun/") >= 2
    assert "ghcr.io" not in rendered


def helm(*arguments: str) -> str:
    done = subprocess.run([str(chart.ensure_tool("helm")), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
