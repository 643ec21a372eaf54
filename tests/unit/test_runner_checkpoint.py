"""Checkpoints: what goes in comes out, for this run and crew alone, and no secret goes in."""

import base64
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewrun_api import names
from crewrun_api.outcome import TaskRecord, preview
from crewrun_api.reasons import Reason, TaskState
from crewrun_runner import checkpoint
from crewrun_runner.checkpoint import FinishedTask, Unusable, keys, pack, read, unpack
from crewrun_runner.redaction import MASK, Redactor
from crewrun_runner.refusal import Refusal

RUN, DIGEST = "0f3ab1c2-run", "sha256:1234"
OLD, NEW, OTHER = (base64.urlsafe_b64encode(letter * 32) for letter in (b"o", b"n", b"x"))
SECRET = 'sk-"live"/\\4f1d é77a+09b='


def finished(index: int = 0, raw: str = "Ten facts", **output: Any) -> FinishedTask:
    record = TaskRecord(
        name="facts", agent="Researcher", state=TaskState.SUCCEEDED, total_tokens=5, attempt=1, preview=preview(raw)
    )
    return FinishedTask(index=index, record=record, output={"raw": raw, **output})


def packed(*tasks: FinishedTask, keys: tuple[bytes, ...] = ()) -> bytes:
    return pack(RUN, DIGEST, tasks or (finished(),), keys, str)


def document(**changes: Any) -> bytes:
    """A checkpoint whose document was changed."""
    plain = json.loads(zlib.decompress(packed()))
    return zlib.compress(json.dumps({**plain, **changes}).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TASKS = st.lists(st.builds(finished, st.integers(0, 99), st.text(), name=st.text(), json_dict=JSON), max_size=4)


@given(TASKS, st.sampled_from([(), (NEW,), (NEW, OLD)]))
def test_what_is_packed_comes_out_again(tasks: list[FinishedTask], keys: tuple[bytes, ...]) -> None:
    assert unpack(pack(RUN, DIGEST, tasks, keys, str), RUN, DIGEST, keys) == tasks


def test_the_same_tasks_make_the_same_bytes_in_whatever_order_their_fields_came() -> None:
    assert packed(finished(json_dict={"a": 1, "b": 2})) == packed(finished(json_dict={"b": 2, "a": 1}))


def test_half_a_surrogate_pair_does_not_lose_a_checkpoint() -> None:
    data = pack(RUN, DIGEST, [finished().model_copy(update={"output": {"raw": "a\ud800"}})], (), Redactor())
    assert unpack(data, RUN, DIGEST, ())[0].output == {"raw": "a?"}


def test_keys_rotate_and_a_checkpoint_from_before_the_keys_counts() -> None:
    assert unpack(packed(keys=(OLD,)), RUN, DIGEST, (NEW, OLD)) == [finished()]
    assert unpack(packed(keys=(NEW, OLD)), RUN, DIGEST, (NEW,)) == [finished()]  # the first one encrypts
    assert unpack(packed(), RUN, DIGEST, (NEW,)) == [finished()]


@pytest.mark.parametrize(
    ("data", "keys", "why"),
    [
        (packed(keys=(OLD,)), (NEW, OTHER), "none of the keys decrypts the checkpoint"),
        (packed(keys=(OLD,)), (), "the checkpoint is encrypted, and the profile names no keys for it"),
        (packed(keys=(OLD,))[:-8], (OLD,), "none of the keys decrypts the checkpoint"),
        (b"", (), "the checkpoint is damaged"),
        (b"\x78garbage", (), "the checkpoint is damaged"),
        (packed()[:-3], (), "the checkpoint is damaged"),
        (packed() + b"more", (), "the checkpoint is damaged"),
        (zlib.compress(b"{"), (), "the checkpoint is no JSON document"),
        (zlib.compress(b"\xff"), (), "the checkpoint is no JSON document"),
        (zlib.compress(b"[" * 100_000), (), "the checkpoint is no JSON document"),
        (zlib.compress(b"[1]"), (), "the checkpoint has version None, and this runner reads 1"),
        (document(version=2), (), "the checkpoint has version 2, and this runner reads 1"),
        (document(extra=1), (), "the checkpoint does not fit this runner (extra: "),
        (document(tasks=[{"index": -1}]), (), "the checkpoint does not fit this runner (tasks.0.index: "),
        (document(runUID="another"), (), "the checkpoint belongs to another run"),
        (document(digest="another"), (), "the checkpoint was made with another crew or other inputs"),
        (zlib.compress(bytes(33 * 1024**2)), (), "the checkpoint has more than 32 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # an encrypted one differs each time
)
def test_what_is_not_usable_says_why_and_what_follows(data: bytes, keys: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(Unusable) as raised:
        unpack(data, RUN, DIGEST, keys)
    assert str(raised.value).startswith(why)
    assert str(raised.value).endswith("; the attempt starts from scratch")


@given(st.data())
def test_no_damage_goes_unnoticed(data: st.DataObject) -> None:
    whole = packed(keys=data.draw(st.sampled_from([(), (OLD,)])))
    place = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    with suppress(Unusable):  # else only bits were changed that mean nothing, as zlib's header has some
        assert unpack(broken, RUN, DIGEST, (OLD,)) == [finished()]


@pytest.mark.parametrize("quoted", [SECRET, json.dumps(SECRET), quote(SECRET, safe="")])
def test_no_spelling_of_a_secret_that_an_output_quotes_is_stored(quoted: str) -> None:
    task = finished(
        raw=f"The key is {quoted}, is it not?",
        name=quoted,
        json_dict={quoted: [quoted, {"in": quoted}]},
        pydantic={"field": quoted},
    )
    named = task.record.model_copy(update={"name": quoted, "agent": quoted, "preview": quoted[: len(quoted) // 2]})
    redact = Redactor([SECRET])
    text = zlib.decompress(pack(RUN, DIGEST, [task.model_copy(update={"record": named})], (), redact)).decode()
    plain = SECRET.encode()
    spellings = [json.dumps(SECRET)[1:-1], quote(SECRET), quote(SECRET, safe=""), plain.hex(), SECRET, quoted]
    spellings += [base64.b64encode(plain).decode(), base64.urlsafe_b64encode(plain).decode(), SECRET[:9]]
    assert [spelling for spelling in spellings if spelling in text] == []
    assert text.count(MASK) >= 7


def test_a_secret_that_a_preview_would_cut_in_two_is_masked_in_it() -> None:
    raw = "x" * 70 + SECRET
    record = unpack(pack(RUN, DIGEST, [finished(raw=raw)], (), Redactor([SECRET])), RUN, DIGEST, ())[0].record
    assert record.preview == "x" * 70 + MASK


# Reading what is mounted.


class Mounted:
    """A folder in which kubelet shows the next content at each look of the runner."""

    def __init__(self, folder: Path, *contents: bytes | None) -> None:
        self.file = folder / names.CHECKPOINT_KEY
        self.contents = list(contents)
        self.now = 0.0
        self.show()

    def show(self) -> None:
        content = self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]
        if content is not None:
            self.file.write_bytes(content)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.show()

    def read(self, expected: bytes) -> bytes | None:
        digest = sha256(expected).hexdigest()
        environ = {names.ENV_CHECKPOINT_SHA256: digest, checkpoint.ENV_CHECKPOINT_DIR: str(self.file.parent)}
        return read(environ, self.sleep, lambda: self.now)


def test_without_a_digest_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / names.CHECKPOINT_KEY).write_bytes(b"old")
    assert read({checkpoint.ENV_CHECKPOINT_DIR: str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("contents", "seconds"), [([b"new"], 0), ([b"old", b"old", b"new"], 1), ([None, b"old", b"new"], 1)]
)
def test_the_runner_waits_for_the_bytes_that_were_meant(
    tmp_path: Path, contents: list[bytes | None], seconds: float
) -> None:
    mounted = Mounted(tmp_path, *contents)
    assert (mounted.read(b"new"), mounted.now) == (b"new", seconds)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"old", "still has other content than the operator stored"), (None, "still cannot be read (No such file")],
)
def test_bytes_that_never_come_are_unusable(tmp_path: Path, content: bytes | None, why: str) -> None:
    mounted = Mounted(tmp_path, content)
    with pytest.raises(Unusable) as raised:
        mounted.read(b"new")
    assert why in str(raised.value) and str(raised.value).endswith("; the attempt starts from scratch")
    assert mounted.now == 120


def mount(folder: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {checkpoint.ENV_KEYS_DIR: str(folder)}


def test_keys_come_in_the_order_of_their_names_without_kubelets_own(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01").mkdir()
    environ = mount(tmp_path, {"2-old": OLD + b"\n", "1-new": NEW, "..data": b"x"})
    assert keys(environ) == [NEW, OLD]
    assert keys({checkpoint.ENV_KEYS_DIR: str(tmp_path / "absent")}) == []


@pytest.mark.parametrize("content", [b"", b"secret", b"#" * 44, NEW[:-4], b"\xff\xfe"])
def test_a_file_that_is_no_key_is_refused_with_the_way_to_make_one(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Refusal, match=r"^the checkpoint key 1-new holds no Fernet key: .*openssl rand") as raised:
        keys(mount(tmp_path, {"1-new": content}))
    assert raised.value.reason is Reason.MISSING_SECRET
    assert content == b"" or content.decode(errors="replace") not in str(raised.value)
