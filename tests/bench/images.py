"""The unpacked size of an image, from its archive."""

import json
import tarfile
from pathlib import Path, PurePosixPath

_GONE, _ALL_GONE = ".wh.", ".wh..wh..opq"


def unpacked(archive: Path) -> int:
    """Bytes of all files that a container of the image sees."""
    files: dict[PurePosixPath, int] = {}
    with tarfile.open(archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        for name in json.load(manifest)[0]["Layers"]:
            with tarfile.open(fileobj=image.extractfile(name)) as layer:
                for member in layer:
                    _add(files, member)
    return sum(files.values())


def _add(files: dict[PurePosixPath, int], member: tarfile.TarInfo) -> None:
    path = PurePosixPath("/", member.name)
    if path.name == _ALL_GONE:
        gone = path.parent
    elif path.name.startswith(_GONE):
        gone = path.with_name(path.name.removeprefix(_GONE))
    else:
        files[path] = member.size if member.isfile() else 0
        return
    for other in [other for other in files if other == gone or gone in other.parents]:
        del files[other]
