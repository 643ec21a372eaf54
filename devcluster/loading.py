"""Loads image archives into a node, but for those it has: an import of a large one takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devcluster.archives import config_digests
from devcluster.paths import Layout
from devcluster.progress import say
from devcluster.record import Record


def is_loaded(images: Mapping[str, str], loaded: Mapping[str, str], present: set[str]) -> bool:
    """Whether each tag was loaded with this very content, and both are still there. Pure.

    `present` is what containerd lists: the tags, and each image's configuration digest.
    """
    return all(loaded.get(tag) == digest and {tag, digest} <= present for tag, digest in images.items())


def load_missing(
    layout: Layout, record: Record, archives: Sequence[Path], present: set[str], load: Callable[[Path], object]
) -> None:
    for archive in archives:
        images = config_digests(archive)
        names = ", ".join(images)
        if is_loaded(images, record.loaded, present):
            say(f"{names}: in the cluster already")
            continue
        load(archive)
        record.loaded.update(images)
        record.save(layout)
        say(f"{names}: loaded")
