"""The outputs of the finished tasks as bytes, and back. Purely computational but for `read` and `keys`.

What comes back is only used when it is of this run and this crew: another one is `Unusable`, and the attempt
starts from scratch. `docs/decisions/0006-checkpoints-are-task-outputs.md` says why it looks this way.
"""

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import Field, ValidationError

from crewrun_api import names
from crewrun_api.model import Model
from crewrun_api.outcome import TaskRecord, preview
from crewrun_api.reasons import Reason
from crewrun_runner.refusal import Refusal

ENV_CHECKPOINT_DIR = "CREWRUN_CHECKPOINT_DIR"
ENV_KEYS_DIR = "CREWRUN_CHECKPOINT_KEYS_DIR"

VERSION = 1
#: kubelet refreshes a mounted ConfigMap every 60 to 90 s: by then the right bytes are there, or never.
WAIT_SECONDS = 120.0
PAUSE_SECONDS = 0.5

#: A checkpoint has at most 1 MiB, which zlib could make a gigabyte of.
_MOST_BYTES = 32 * 1024 * 1024
#: How a Fernet token begins: its version and a time of this era, as base64. Nothing of zlib's begins so.
_FERNET = b"gAAAA"
_SCRATCH = "the attempt starts from scratch"


class FinishedTask(Model):
    """A task that needs no model any more."""

    index: int = Field(ge=0, description="Its place among the crew's tasks.")
    record: TaskRecord = Field(description="What the status says of it; `attempt` is the one that ran it.")
    output: dict[str, Any] = Field(description="CrewAI's TaskOutput as JSON, without its messages.")


class _Document(Model):
    version: int
    run_uid: str
    digest: str
    tasks: list[FinishedTask]


class Unusable(Exception):
    """The checkpoint is not one to go on from; the text says why, for people."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; {_SCRATCH}")


def pack(
    run_uid: str, digest: str, finished: Sequence[FinishedTask], keys: Sequence[bytes], redact: Callable[[str], str]
) -> bytes:
    """The checkpoint of these tasks: the same bytes for the same tasks, unless they are encrypted."""
    tasks = [_previewed(task, redact) for task in finished]
    document = _Document(version=VERSION, run_uid=run_uid, digest=digest, tasks=tasks)
    # Value by value: in the serialized text an escape could hide a secret, or a mask could break an escape.
    plain = _redacted(document.model_dump(mode="json", by_alias=True, exclude_none=True), redact)
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    data = zlib.compress(text.encode(), 9)
    return MultiFernet([Fernet(key) for key in keys]).encrypt(data) if keys else data


def unpack(data: bytes, run_uid: str, digest: str, keys: Sequence[bytes]) -> list[FinishedTask]:
    """The tasks of a checkpoint. Raises Unusable when they are not this run's, or cannot be read."""
    # A plain one counts when there are keys too: it was written before somebody configured them, and that its
    # bytes are the ones that the operator stored is what their digest says.
    document = _parsed(_inflated(_decrypted(data, keys) if data.startswith(_FERNET) else data))
    if document.run_uid != run_uid:
        raise Unusable("the checkpoint belongs to another run")
    if document.digest != digest:
        raise Unusable("the checkpoint was made with another crew or other inputs")
    return document.tasks


def read(
    environ: Mapping[str, str],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bytes | None:
    """The bytes to go on from, as soon as they are mounted; None when there is nothing to go on from."""
    if not (expected := environ.get(names.ENV_CHECKPOINT_SHA256)):
        return None
    path = Path(environ.get(ENV_CHECKPOINT_DIR, names.CHECKPOINT_DIR)) / names.CHECKPOINT_KEY
    deadline = clock() + WAIT_SECONDS
    while True:
        try:
            data = path.read_bytes()
            found = "has other content than the operator stored"
        except OSError as error:
            data, found = b"", f"cannot be read ({error.strerror})"
        if data and sha256(data).hexdigest() == expected:
            return data
        if clock() >= deadline:
            raise Unusable(f"after {WAIT_SECONDS:g} s the mounted checkpoint {path} still {found}")
        sleep(PAUSE_SECONDS)


def keys(environ: Mapping[str, str]) -> list[bytes]:
    """The mounted keys by the order of their names: the first encrypts, each of them decrypts."""
    folder = Path(environ.get(ENV_KEYS_DIR, names.CHECKPOINT_KEYS_DIR))
    if not folder.is_dir():
        return []
    # kubelet's own links into the Secret's current version begin with two dots.
    return [_key(path) for path in sorted(folder.iterdir()) if not path.name.startswith("..")]


def _key(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
        Fernet(key)
    except (OSError, ValueError) as error:
        why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "holds no Fernet key"
        raise Refusal(
            Reason.MISSING_SECRET,
            f"the checkpoint key {path.name} {why}: the Secret needs 32 random bytes in URL-safe base64, as "
            "`openssl rand -base64 32 | tr +/ -_` makes them",
        ) from error
    return key


def _previewed(task: FinishedTask, redact: Callable[[str], str]) -> FinishedTask:
    """Its preview is cut off after its output was redacted: half a secret would not be found any more."""
    record = task.record.model_copy(update={"preview": preview(redact(str(task.output.get("raw", ""))))})
    return task.model_copy(update={"record": record})


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key): _redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, redact) for item in value]
    return value


def _decrypted(data: bytes, keys: Sequence[bytes]) -> bytes:
    if not keys:
        raise Unusable("the checkpoint is encrypted, and the profile names no keys for it")
    try:
        return MultiFernet([Fernet(key) for key in keys]).decrypt(data)
    except InvalidToken as error:
        raise Unusable("none of the keys decrypts the checkpoint") from error


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise Unusable(f"the checkpoint is damaged ({error})") from error
    if inflater.unconsumed_tail:
        raise Unusable(f"the checkpoint has more than {_MOST_BYTES // 1024**2} MiB")
    if not inflater.eof or inflater.unused_data:
        raise Unusable("the checkpoint is damaged (it does not end where it should)")
    return text


def _parsed(text: bytes) -> _Document:
    try:
        document = json.loads(text)
        version = document.get("version") if isinstance(document, dict) else None
        if version != VERSION:
            raise Unusable(f"the checkpoint has version {version!r}, and this runner reads {VERSION}")
        return _Document.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise Unusable(f"the checkpoint does not fit this runner ({path}: {first['msg']})") from error
    except (ValueError, RecursionError) as error:
        raise Unusable("the checkpoint is no JSON document") from error
