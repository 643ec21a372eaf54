"""The outcome record: always small enough for kubelet, never half a character, believed only when it can be read."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.outcome import (
    RECORD_LIMIT_BYTES,
    ModelUsage,
    OutcomeRecord,
    OutputRecord,
    TaskRecord,
    Usage,
    cut,
    encode,
    parse,
    preview,
)
from crewrun_api.reasons import OutputFormat, TaskState
from tests.unit.builders import RecordBuilder

BIG = 10**15
ALPHABETS = ["a", "ä", "€", "🐝", '"', "\\", "\n", "\x00", "\x1b[0m", '{"a": "🐝\\n"}']
TASKS = st.builds(
    TaskRecord,
    name=st.text(max_size=60),
    agent=st.text(max_size=40),
    state=st.sampled_from(TaskState),
    total_tokens=st.integers(0, BIG),
    preview=st.text(max_size=80),
)
MODELS = st.builds(ModelUsage, model=st.text(max_size=80), requests=st.integers(0, BIG))
TEXTS = st.builds(lambda part, n: part * n, st.sampled_from(ALPHABETS), st.integers(0, 12_000))


@settings(max_examples=40, deadline=None)
@given(
    output=st.none() | TEXTS | st.text(max_size=5000),
    message=TEXTS | st.text(max_size=2000),
    tasks=st.lists(TASKS, max_size=50),
    models=st.lists(MODELS, max_size=20),
)
def test_a_record_fits_kubelets_message_whatever_stands_in_it(
    output: str | None, message: str, tasks: list[TaskRecord], models: list[ModelUsage]
) -> None:
    usage = Usage(requests=BIG, prompt_tokens=BIG, completion_tokens=BIG, total_tokens=BIG, by_model=models)
    made = OutputRecord.of(output) if output is not None else None
    record = RecordBuilder().with_(message=message, tasks=tasks, usage=usage, output=made).build()

    data = encode(record)
    read = parse(data.decode())  # strict: half a character would raise

    assert len(data) <= RECORD_LIMIT_BYTES
    assert read is not None
    assert (read.run_uid, read.attempt, read.pod_uid, read.outcome) == (
        record.run_uid,
        record.attempt,
        record.pod_uid,
        record.outcome,
    )
    assert read.usage.total_tokens == BIG
    assert message.startswith(read.message)
    if made is None:
        assert read.output is None
    else:
        assert read.output is not None
        assert made.value.startswith(read.output.value)
        assert read.output.truncated == (read.output.value != made.value)
        assert (read.output.bytes, read.output.sha256) == (made.bytes, made.sha256)


@pytest.mark.parametrize("character", ["a", "ä", "€", "🐝", "\n", '"', "\x00"], ids=ascii)
def test_a_large_output_is_cut_as_late_as_it_can_be(character: str) -> None:
    record = RecordBuilder().with_(output=OutputRecord.of(character * 10_000)).build()
    data = encode(record)
    one_more = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    assert RECORD_LIMIT_BYTES - one_more < len(data) <= RECORD_LIMIT_BYTES
    assert (read := parse(data.decode())) and read.output and read.output.truncated


def test_an_output_that_fits_is_whole() -> None:
    record = RecordBuilder().with_(output=OutputRecord.of('{"a": 1}', OutputFormat.JSON)).build()
    assert parse(encode(record).decode()) == record


def test_a_preview_goes_before_the_end_of_an_output_that_fits_without_it() -> None:
    tasks = [TaskRecord(name="t1", state=TaskState.SUCCEEDED, preview="x" * 80)]
    base = RecordBuilder().with_(tasks=tasks, output=OutputRecord.of("")).build()
    room = RECORD_LIMIT_BYTES - len(encode(base)) + len('"preview":""') + 60
    read = parse(encode(base.model_copy(update={"output": OutputRecord.of("y" * room)})).decode())
    assert read and read.output and not read.output.truncated
    assert [task.preview for task in read.tasks] == [""]


def test_the_output_goes_first_then_previews_then_tasks_then_models() -> None:
    tasks = [TaskRecord(name=f"task-{n}", state=TaskState.SUCCEEDED, preview="x" * 80) for n in range(50)]
    models = [ModelUsage(model=f"provider/model-{n}", requests=1) for n in range(20)]
    full = RecordBuilder().with_(output=OutputRecord.of("y" * 9000), usage=Usage(by_model=models))

    few = parse(encode(full.with_(tasks=tasks[:10]).build()).decode())
    many = parse(encode(full.with_(tasks=tasks).build()).decode())
    long = [task.model_copy(update={"name": "n" * 200}) for task in tasks]
    too_many = parse(encode(full.with_(tasks=long).build()).decode())

    assert few and many and too_many
    assert few.tasks == tasks[:10] and few.output and len(few.output.value) < 3000
    assert len(many.tasks) == 50 and not any(task.preview for task in many.tasks)
    assert too_many.tasks == [] and len(too_many.usage.by_model) == 20
    assert too_many.tasks_succeeded == 2, "the count stays when the tasks go"


def test_a_message_of_control_characters_loses_its_end_and_never_the_record() -> None:
    read = parse(
        encode(RecordBuilder().with_(message="\x00" * 2000, output=OutputRecord.of("y" * 500)).build()).decode()
    )
    assert read is not None and read.message == "\x00" * 200
    assert read.output is not None and read.output.value == "y" * 500


def test_the_version_always_stands_in_the_record() -> None:
    """A reader whose own default is another version must see which one this is."""
    assert json.loads(encode(RecordBuilder().build()))["version"] == 1


def valid(**changes: Any) -> str:
    return json.dumps({**json.loads(RecordBuilder().text()), **changes})


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="nothing"),
        pytest.param("Traceback (most recent call last):", id="a log"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="empty"),
        pytest.param(valid()[:-1], id="cut at the end"),
        pytest.param(valid()[200:], id="cut at the beginning, as kubelet does"),
        pytest.param("[" * 5000, id="deep"),
        pytest.param(valid(version=2), id="unknown version"),
        pytest.param(valid(version="new"), id="version that is no number"),
        pytest.param(valid(outcome="Fine"), id="unknown outcome"),
        pytest.param(valid(reason="Because"), id="unknown reason"),
        pytest.param(valid(exitCode=3), id="unknown exit code"),
        pytest.param(valid(attempt=0), id="attempt 0"),
        pytest.param(valid(signature="x"), id="unknown field"),
        pytest.param(valid(usage={"totalTokens": -1}), id="negative tokens"),
        pytest.param(valid(usage={"totalTokens": 10**30}), id="tokens that no API server takes"),
        pytest.param(valid(retryAfterSeconds=-1), id="negative wait"),
        pytest.param('{"run\ud800": 1}', id="half a surrogate pair"),
    ],
)
def test_what_cannot_be_read_is_no_record(message: str) -> None:
    assert parse(message) is None


@given(st.text(st.characters(), max_size=200))
def test_no_message_raises(message: str) -> None:
    assert parse(message) is None or isinstance(parse(message), OutcomeRecord)


@pytest.mark.parametrize("wait", ["Infinity", "1e999", "NaN", "0"])
def test_any_wait_is_read_or_refused(wait: str) -> None:
    parse(valid()[:-1] + f', "retryAfterSeconds": {wait}}}')


def test_figures_that_a_newer_runner_adds_are_passed_over() -> None:
    record = parse(valid(usage={"totalTokens": 7, "costUSD": "0.10", "byModel": [{"model": "m", "costUSD": "1"}]}))
    assert record is not None and record.usage.total_tokens == 7


@given(text=st.text(max_size=300), limit=st.integers(-5, 400))
def test_a_cut_is_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    got = cut(text, limit)
    assert text.startswith(got)
    assert len(got.encode()) <= max(limit, 0)
    if got != text:
        assert len(text[: len(got) + 1].encode()) > limit


@pytest.mark.parametrize(
    ("text", "want_preview"),
    [("a\n b\t c ", "a b c"), ("", ""), ("x" * 100, "x" * 80), ("€" * 100, "€" * 26)],
)
def test_a_preview_is_one_short_line(text: str, want_preview: str) -> None:
    assert preview(text) == want_preview
