"""Pushes what was built and signs it: the commands of the release workflow, which alone has the rights to run them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.progress import run_long, run_quick, say
from release import sbom
from release.identity import Identity
from release.images import OUTPUT, Build, environment, stage_one
from release.products import PRODUCTS, Product, machine_of

PUSHED = OUTPUT / "pushed.txt"
"""What the last `push` left in the registry, one REFERENCE@DIGEST a line: this is what gets signed."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def push_command(build: Build, metadata: Path) -> list[str]:
    """One platform of one image, without a tag, with its provenance and what a scan of its files finds. Pure."""
    name = build.reference.rpartition(":")[0]
    output = f"type=image,name={name},push-by-digest=true,name-canonical=true,push=true,rewrite-timestamp=true"
    flags = ["--provenance=mode=max", "--sbom=true", "--output", output, "--metadata-file", str(metadata)]
    return ["docker", "buildx", "build", *build.arguments, *flags, str(build.context)]


def join_command(reference: str, digests: Sequence[str], labels: dict[str, str]) -> list[str]:
    """The tag over all platforms. The index gets the labels as annotations. Pure."""
    name = reference.rpartition(":")[0]
    annotations = [part for key, value in labels.items() for part in ("--annotation", f"index:{key}={value}")]
    sources = [f"{name}@{digest}" for digest in digests]
    return ["docker", "buildx", "imagetools", "create", "--tag", reference, *annotations, *sources]


def digest_command(reference: str) -> list[str]:
    return ["docker", "buildx", "imagetools", "inspect", reference, "--format", "{{json .Manifest}}"]


def sign_commands(reference: str, bill: Path | None) -> list[list[str]]:
    """Keyless: the identity is that of the workflow, and the signature is in the public log. Pure."""
    signed = [["cosign", "sign", "--yes", "--recursive", reference]]
    if bill:
        attested = ["cosign", "attest", "--yes", "--type", "cyclonedx", "--predicate", str(bill), reference]
        signed.append(attested)
    return signed


def pinned(base: str) -> str:
    """A base image by its digest: its tag will be another image tomorrow."""
    return base if "@" in base else f"{base}@{digest_of(base)}"


def digest_of(reference: str) -> str:
    told = run_quick(digest_command(reference), what=f"asking for the digest of {reference}").stdout
    return str(json.loads(told)["digest"])


def push_image(product: Product, platforms: Sequence[str], base: str, registry: str, identity: Identity) -> str:
    """The image under its tag, for every platform; its REFERENCE@DIGEST."""
    digests = []
    for platform in platforms:
        build = stage_one(product, platform, base, registry, identity, OUTPUT)
        metadata = OUTPUT / f"{product.staged}-{machine_of(platform)}.json"
        run_long(
            push_command(build, metadata),
            what=f"pushing {build.reference} ({platform})",
            log=OUTPUT / "logs" / f"push-{product.staged}-{machine_of(platform)}.log",
            env=environment(identity.committed),
            hint="read the output above; docker login, and a builder with docker-container, are needed",
        )
        digests.append(json.loads(metadata.read_text())["containerimage.digest"])
    run_quick(join_command(build.reference, digests, dict(build.labels)), what=f"joining {build.reference}")
    pushed = f"{build.reference}@{digest_of(build.reference)}"
    say(f"pushed {pushed}")
    return pushed


def push_chart(helm: Path, archive: Path, registry: str) -> str:
    """The chart as an OCI artifact; its REFERENCE@DIGEST."""
    done = run_quick([str(helm), "push", str(archive), f"oci://{registry}/charts"], what="helm push")
    pushed = chart_reference(registry, archive.name, done.stdout + done.stderr)
    say(f"pushed {pushed}")
    return pushed


def chart_reference(registry: str, archive: str, told: str) -> str:
    """From what `helm push` said: it has no other way to tell the digest. Pure."""
    found = _DIGEST.search(told)
    if not found:
        raise DevClusterError(f"helm push did not say the digest of {archive}: {told}")
    name, _, version = archive.removesuffix(".tgz").partition("-")
    return f"{registry}/charts/{name}:{version}@{found[0]}"


def bill_of(reference: str, tag: str) -> Path | None:
    """The bill of materials of what was pushed under this reference; a chart has none. Pure."""
    repository, _, version = reference.partition("@")[0].rpartition("/")[2].partition(":")
    staged = f"{repository}{version.removeprefix(tag)}"
    return sbom.OUTPUT / f"{staged}.cdx.json" if staged in PRODUCTS else None


def sign(reference: str, bill: Path | None) -> None:
    for command in sign_commands(reference, bill):
        run_quick(command, what=f"{' '.join(command[:2])} {reference}")
    say(f"signed {reference}")
