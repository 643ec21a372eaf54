"""Reads image archives as `docker save` and buildah write them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from devcluster.errors import DevClusterError


def manifest_digests(manifest: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Image tag to the digest of its configuration, which names the image's whole content. Pure.

    The configuration's file is named by its digest, in one of two ways: DIGEST.json, or
    blobs/sha256/DIGEST.
    """
    return {
        normalize(tag): f"sha256:{PurePosixPath(entry['Config']).name.removesuffix('.json')}"
        for entry in manifest
        for tag in entry.get("RepoTags") or []
    }


def normalize(tag: str) -> str:
    """A tag as containerd writes it: with its registry. Pure."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"


def config_digests(archive: Path) -> dict[str, str]:
    """What `manifest_digests` finds in an archive file."""
    wrong = f"{archive} is not an image archive"
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            if member is None:
                raise DevClusterError(f"{wrong}: its manifest.json is no file.")
            found = manifest_digests(json.load(member))
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise DevClusterError(
            f"{wrong}: {error}.", hint="make one with `python -m devcluster build-image` or `docker save`"
        ) from error
    if not found:
        raise DevClusterError(f"{archive} holds no image with a name.", hint="build it with a tag")
    return found
