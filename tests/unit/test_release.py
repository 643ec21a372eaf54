"""What a release is called and made of: one version, the commit, the labels, the commands."""

import dataclasses
import io
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

import stage
from devcluster.errors import DevClusterError
from release import chart, identity, images, publish, sbom
from release.__main__ import main
from release.identity import Identity, tag_of
from release.images import Build
from release.products import PRODUCTS, REGISTRY, labels, machine_of, python_of

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
THIS = Identity("1.2.3", "1.2.3", REVISION, 1_700_000_000, "An operator", "Apache-2.0", "https://example.org/crewrun")
BUILD = Build(
    "ghcr.io/crewrun/runner:1.2.3-mcp", Path("/c"), "linux/amd64", "python:3.13-slim", {"a": "b"}, 1_700_000_000
)


def test_there_is_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    packaged = yaml.safe_load((ROOT / "charts/crewrun/Chart.yaml").read_text())
    assert (packaged["version"], packaged["appVersion"]) == (version, version)
    for path in ("docs/guides/runner.md", "examples/custom-image/Dockerfile"):
        assert f"{REGISTRY}/runner:{version}" in (ROOT / path).read_text(), path


@pytest.mark.parametrize(
    ("tags", "dirty", "want"),
    [
        (["v1.2.3"], False, "1.2.3"),
        (["v1.2.2", "nightly"], False, "1.2.3-g0123456789ab"),
        ([], False, "1.2.3-g0123456789ab"),
        (["v1.2.3"], True, "1.2.3-g0123456789ab-dirty"),
    ],
)
def test_a_tag_is_the_version_or_says_the_commit(tags: list[str], dirty: bool, want: str) -> None:
    assert tag_of("1.2.3", REVISION, tags, dirty=dirty) == want


def test_only_the_commit_of_a_version_is_published() -> None:
    identity.check(THIS)
    with pytest.raises(DevClusterError, match=r"is 1\.2\.3-gabc, not the release 1\.2\.3"):
        identity.check(dataclasses.replace(THIS, tag="1.2.3-gabc"))


def test_the_default_images_of_the_chart_are_images_of_the_release() -> None:
    values = yaml.safe_load((ROOT / "charts/crewrun/values.yaml").read_text())
    named = {values[part]["image"]["repository"] for part in ("operator", "runner")}
    assert named <= {f"{REGISTRY}/{product.repository}" for product in PRODUCTS.values()}


@pytest.mark.parametrize(
    ("staged", "want"),
    [
        ("operator", "ghcr.io/crewrun/operator:1.2.3"),
        ("testing", "ghcr.io/crewrun/testing:1.2.3"),
        ("runner", "ghcr.io/crewrun/runner:1.2.3"),
        ("runner-mcp", "ghcr.io/crewrun/runner:1.2.3-mcp"),
    ],
)
def test_an_extra_is_a_tag_of_the_runner(staged: str, want: str) -> None:
    assert PRODUCTS[staged].reference(REGISTRY, THIS.tag) == want


def test_every_image_that_is_staged_is_released_under_a_name_of_its_own() -> None:
    references = {product.reference(REGISTRY, THIS.tag) for product in PRODUCTS.values()}
    assert PRODUCTS.keys() == stage.IMAGES.keys()
    assert len(references) == len(stage.IMAGES)
    assert not any(reference.endswith(":latest") for reference in references)


def test_labels_say_what_an_image_is_and_where_it_comes_from() -> None:
    digest = "sha256:" + "a" * 64
    found = labels(PRODUCTS["runner-mcp"], THIS, f"python:3.13-slim@{digest}")
    assert {key.removeprefix("org.opencontainers.image."): value for key, value in found.items()} == {
        "base.digest": digest,
        "base.name": "docker.io/library/python:3.13-slim",
        "created": "2023-11-14T22:13:20Z",
        "description": "Runs one attempt of one crew, with the extra mcp.",
        "licenses": "Apache-2.0",
        "revision": REVISION,
        "source": "https://example.org/crewrun",
        "title": "CrewRun runner with mcp",
        "version": "1.2.3-mcp",
    }


def test_a_base_without_a_digest_has_no_label_for_it() -> None:
    assert "org.opencontainers.image.base.digest" not in labels(PRODUCTS["operator"], THIS, "python:3.13-slim")


@pytest.mark.parametrize(
    ("base", "want"),
    [
        ("python:3.13-slim", "3.13"),
        ("python:3.12-slim@sha256:abc", "3.12"),
        ("registry.example:5000/library/python:3.13.1-slim", "3.13"),
        ("localhost/crewrun-python-base:1e8abef030f59d4f", "3.11"),
    ],
)
def test_packages_are_staged_for_the_python_of_the_base(base: str, want: str) -> None:
    assert python_of(base) == want


def test_a_platform_that_has_no_wheels_is_refused() -> None:
    assert machine_of("linux/arm64") == "arm64"
    with pytest.raises(DevClusterError, match="linux/s390x"):
        machine_of("linux/s390x")


@pytest.mark.parametrize(("builder", "want"), [("docker", ["build"]), ("buildah", ["build", "push", "rmi"])])
def test_an_archive_has_the_times_of_the_commit(builder: str, want: list[str]) -> None:
    commands = images.archive_commands(builder, BUILD, Path("/out/x.tar"))
    joined = " ".join(commands[0])
    assert [command[2] if builder == "docker" else command[1] for command in commands] == want
    assert "--label a=b" in joined and "--build-arg BASE=python:3.13-slim" in joined
    assert "rewrite-timestamp=true" in joined if builder == "docker" else "--timestamp 1700000000" in joined
    assert images.environment(BUILD.epoch)["SOURCE_DATE_EPOCH"] == "1700000000"


def test_without_docker_another_platform_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "docker_is_up", lambda: False)
    monkeypatch.setattr(images, "own_platform", lambda: "linux/amd64")
    with pytest.raises(DevClusterError, match="QEMU"):
        images.build_archives([PRODUCTS["testing"]], ["linux/amd64", "linux/arm64"], THIS, REGISTRY, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_platform_is_pushed_without_a_tag_and_with_its_provenance() -> None:
    joined = " ".join(publish.push_command(BUILD, Path("/m.json")))
    assert "push-by-digest=true" in joined and "name=ghcr.io/crewrun/runner," in joined
    assert "--provenance=mode=max --sbom=true" in joined
    assert "--tag" not in joined


def test_the_tag_is_made_once_over_all_platforms() -> None:
    command = publish.join_command(BUILD.reference, ["sha256:a", "sha256:b"], {"k": "v"})
    assert command[3:] == [
        *("create", "--tag", "ghcr.io/crewrun/runner:1.2.3-mcp", "--annotation", "index:k=v"),
        *("ghcr.io/crewrun/runner@sha256:a", "ghcr.io/crewrun/runner@sha256:b"),
    ]


def test_what_is_signed_is_a_digest_and_the_bill_is_attested() -> None:
    signed, attested = publish.sign_commands("ghcr.io/crewrun/operator:1@sha256:a", Path("operator.cdx.json"))
    assert signed == ["cosign", "sign", "--yes", "--recursive", "ghcr.io/crewrun/operator:1@sha256:a"]
    assert attested[1] == "attest" and "operator.cdx.json" in attested and "cyclonedx" in attested
    assert len(publish.sign_commands("ghcr.io/crewrun/charts/crewrun:1@sha256:a", None)) == 1


@pytest.mark.parametrize(
    ("reference", "want"),
    [
        ("ghcr.io/crewrun/operator:1.2.3@sha256:a", "operator.cdx.json"),
        ("registry.example:5000/crewrun/runner:1.2.3@sha256:a", "runner.cdx.json"),
        ("ghcr.io/crewrun/runner:1.2.3-mcp@sha256:a", "runner-mcp.cdx.json"),
        ("ghcr.io/crewrun/charts/crewrun:1.2.3@sha256:a", None),
    ],
)
def test_each_image_is_attested_with_the_bill_of_its_own(reference: str, want: str | None) -> None:
    bill = publish.bill_of(reference, "1.2.3")
    assert (bill.name if bill else None) == want


def test_a_pushed_chart_is_known_by_its_digest() -> None:
    digest = "sha256:" + "b" * 64
    told = f"Pushed: ghcr.io/crewrun/charts/crewrun:1.2.3-gabc\nDigest: {digest}\n"
    found = publish.chart_reference("ghcr.io/crewrun", "crewrun-1.2.3-gabc.tgz", told)
    assert found == f"ghcr.io/crewrun/charts/crewrun:1.2.3-gabc@{digest}"
    with pytest.raises(DevClusterError, match="did not say the digest"):
        publish.chart_reference("ghcr.io/crewrun", "crewrun-1.2.3.tgz", "Pushed")


def test_an_image_that_is_not_ours_is_answered_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "operator", "operatr"]) == 1
    assert "no image is named operatr" in capsys.readouterr().err


LOCK = """\
# a comment
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:aa
    # via click
numpy==2.4.0 ; python_full_version < '3.12' \\
    --hash=sha256:bb
numpy==2.5.0 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
pyjwt[crypto]==2.10.0 \\
    --hash=sha256:dd
"""


@pytest.mark.parametrize(
    ("python", "want"),
    [("3.11", ["numpy==2.4.0", "pyjwt[crypto]==2.10.0"]), ("3.13", ["numpy==2.5.0", "pyjwt[crypto]==2.10.0"])],
)
def test_a_bill_has_what_is_installed_and_not_what_a_lock_has_for_others(python: str, want: list[str]) -> None:
    found = sbom.installed(LOCK, python)
    assert [line.split()[0] for line in found.splitlines() if not line.startswith(" ")] == want
    assert found.count("--hash") == len(want)


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_the_root_of_a_bill_is_the_image(product: object) -> None:
    root = tomllib.loads(sbom.project_of(product, THIS))["project"]  # type: ignore[arg-type]
    assert root["name"].startswith("crewrun-")
    assert (root["version"], root["license"]) == ("1.2.3", "Apache-2.0")


def packaged(order: list[str], mtime: int) -> bytes:
    """A chart as Helm packages it: at some moment, in some order."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in order:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(name), mtime
            tar.addfile(entry, io.BytesIO(name.encode()))
    return made.getvalue()


def test_the_same_chart_is_the_same_bytes() -> None:
    names = ["crewrun/Chart.yaml", "crewrun/values.yaml", "crewrun/templates/a.yaml"]
    first, second = packaged(names, 1), packaged(names[::-1], 2)
    assert chart.settled(first, 7) == chart.settled(second, 7)
    with tarfile.open(fileobj=io.BytesIO(chart.settled(first, 7))) as tar:
        assert tar.getnames()[0] == "crewrun/Chart.yaml", "Helm looks for it first"
        assert {member.mtime for member in tar} == {7}
