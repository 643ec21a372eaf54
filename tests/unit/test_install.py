"""What the development cluster's installer hands to helm."""

from pathlib import Path

from devcluster.install import as_arguments, restricted, values


def test_the_images_are_those_that_were_loaded(tmp_path: Path) -> None:
    archive = tmp_path / "operator.tar"
    archive.write_bytes(b"an image")
    found = values(archive)

    want_repositories = {"localhost/crewrun-operator", "localhost/crewrun-runner", "localhost/crewrun-testing"}
    assert {found[f"{part}.image.repository"] for part in ("operator", "runner", "test")} == want_repositories
    archive.write_bytes(b"another image")
    changed = {key for key in found if values(archive)[key] != found[key]}
    assert changed == {"operator.podAnnotations.image-archive"}, "the same tag would not start the new image"


def test_values_are_given_as_text() -> None:
    assert [*as_arguments({"runner.image.tag": "1"})] == ["--set-string", "runner.image.tag=1"]


def test_the_operators_namespace_takes_no_pod_with_rights_on_its_node() -> None:
    labels = restricted("crewrun-system")["metadata"]["labels"]  # type: ignore[index]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
