"""What is kept of a run outside its status: the ConfigMaps of its checkpoint and of its output.

Purely computational: what a runner sent in, manifests out.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Set
from typing import Any

from crewrun_api import names
from crewrun_api.outcome import OutputRecord, cut
from crewrun_api.report import STORED_LIMIT_BYTES, OutputFile, Report
from crewrun_api.run import FileStatus, OutputStatus
from crewrun_operator.observed import Save
from crewrun_operator.views import Manifest

#: An output that is no longer stands in the status alone.
_INLINE_LIMIT_BYTES = 4096
_SHOWN_FILES = 50
_KEY_LIMIT = 253
_NOT_IN_A_KEY = re.compile(r"[^-._a-zA-Z0-9]+")


def save_checkpoint(run: Manifest, report: Report) -> Save:
    """The ConfigMap of the checkpoint that came with a report."""
    assert report.checkpoint is not None
    snapshot, metadata = report.snapshot, run["metadata"]
    manifest = _config_map(run, names.checkpoint_name(metadata["name"], metadata["uid"]))
    manifest["metadata"]["annotations"] = {
        names.ANNOTATION_ATTEMPT: str(snapshot.attempt),
        names.ANNOTATION_POD_UID: snapshot.pod_uid,
        names.ANNOTATION_SEQUENCE: str(snapshot.sequence),
        names.ANNOTATION_SHA256: report.checkpoint.sha256,
    }
    manifest["binaryData"] = {names.CHECKPOINT_KEY: report.checkpoint.data}
    return Save(manifest, checkpoint_of=(snapshot.pod_uid, snapshot.sequence))


def keep_output(
    run: Manifest, output: OutputRecord, files: Iterable[OutputFile], unkept: Set[str] = frozenset()
) -> tuple[OutputStatus, Save | None]:
    """The output as the status shows it, and the ConfigMap that holds what does not fit there; without it, if it is
    one of those that the API server does not take."""
    files, metadata = list(files), run["metadata"]
    name = names.output_name(metadata["name"], metadata["uid"])
    kept = cut(output.value, STORED_LIMIT_BYTES)
    status = OutputStatus(
        value=cut(kept, _INLINE_LIMIT_BYTES),
        format=output.format,
        bytes=output.bytes,
        sha256=output.sha256,
        truncated=output.truncated or kept != output.value,
    )
    if name in unkept or (status.value == output.value and not any(file.upload for file in files)):
        truncated = output.truncated or status.value != output.value
        return status.model_copy(update={"files": _file_statuses(files, {}), "truncated": truncated}), None
    manifest = _config_map(run, name)
    manifest["data"], manifest["binaryData"] = {names.OUTPUT_KEY: kept}, {}
    left, keys = STORED_LIMIT_BYTES - len(kept.encode()), dict[str, str]()
    for file in files:
        content = b64decode(file.upload.data) if file.upload else None
        if file.upload is None or content is None or len(content) > left:
            continue
        left -= len(content)
        keys[file.name] = key = _key(file.name, {names.OUTPUT_KEY, *keys.values()})
        try:
            manifest["data"][key] = content.decode()
        except UnicodeDecodeError:
            manifest["binaryData"][key] = file.upload.data
    shown = {"config_map": manifest["metadata"]["name"], "files": _file_statuses(files, keys)}
    return status.model_copy(update=shown), Save(manifest)


def _file_statuses(files: list[OutputFile], keys: dict[str, str]) -> list[FileStatus]:
    return [FileStatus(name=file.name, bytes=file.bytes, key=keys.get(file.name)) for file in files[:_SHOWN_FILES]]


def _key(name: str, taken: set[str]) -> str:
    """A ConfigMap's key for a path: `out/report.md` is `out-report.md`."""
    plain = names.shorten(_NOT_IN_A_KEY.sub("-", name).strip("-.") or "file", _KEY_LIMIT - 4)
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return next(key for key in (plain, *numbered) if key not in taken)


def _config_map(run: Manifest, name: str) -> dict[str, Any]:
    metadata = run["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {
                names.LABEL_RUN: names.run_label(metadata["name"]),
                names.LABEL_RUN_UID: metadata["uid"],
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
            },
            "ownerReferences": [names.owner(metadata["name"], metadata["uid"])],
        },
    }
