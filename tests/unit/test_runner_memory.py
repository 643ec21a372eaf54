"""Whether a crew can remember, and when its memory in the machine runs out."""

from pathlib import Path
from typing import Any

import pytest

from crewrun_api.reasons import Reason
from crewrun_api.settings import Memory
from crewrun_runner import cgroup, memory
from crewrun_runner.refusal import Refusal
from tests.runner.harness import wait_for

KEY = {"OPENAI_API_KEY": "sk-1"}
ALL = ("lancedb", "chromadb")
ON, OFF = Memory(enabled=True), Memory(enabled=False)

WANTED: list[tuple[dict[str, Any], Memory | None, bool]] = [
    ({}, None, False),
    ({}, OFF, False),
    ({}, ON, True),
    ({"memory": True}, None, True),
    ({"memory": True}, OFF, True),
    ({"memory": False}, ON, False),
    ({"memory": None}, ON, False),
]


@pytest.mark.parametrize(("definition", "settings", "want"), WANTED, ids=str)
def test_the_definition_is_stronger_than_the_settings(
    definition: dict[str, Any], settings: Memory | None, want: bool
) -> None:
    assert memory.wanted(definition, settings) is want


REFUSALS: list[tuple[dict[str, Any], dict[str, str], tuple[str, ...], str | None]] = [
    ({}, KEY, ALL, None),
    ({}, {"EMBEDDINGS_OPENAI_API_KEY": "k"}, ALL, None),
    ({"embedder": {"provider": "openai", "config": {"api_key": "k"}}}, {}, ALL, None),
    ({"embedder": {"provider": "jina", "config": {"api_key": "k"}}}, {}, ALL, None),
    ({"embedder": {"provider": "ollama"}}, {}, (*ALL, "ollama"), None),
    ({}, KEY, (), "memory.enabled: the runner image leaves out lancedb"),
    ({"memory": True}, KEY, (), "definition.memory: the runner image leaves out lancedb"),
    ({}, KEY, ("lancedb",), "memory.enabled: the runner image leaves out chromadb"),
    ({}, {}, ALL, "memory.enabled: memory asks OpenAI for embeddings"),
    ({"embedder": {"provider": "openai"}}, {}, ALL, "definition.embedder: memory asks OpenAI"),
    ({"embedder": "openai"}, KEY, ALL, "definition.embedder: must be an object"),
    ({"embedder": {"provider": "onnx"}}, KEY, ALL, "definition.embedder.provider: onnx would download a model"),
    ({"embedder": {"provider": "google"}}, KEY, ALL, "leaves out crewai[google-genai]"),
    ({"embedder": {"provider": "cohere"}}, KEY, ALL, "the image has no module cohere"),
]


@pytest.mark.parametrize(("definition", "environ", "installed", "want"), REFUSALS, ids=str)
def test_a_memory_that_cannot_work_is_refused_up_front(
    definition: dict[str, Any], environ: dict[str, str], installed: tuple[str, ...], want: str | None
) -> None:
    try:
        memory.check(definition, ON, environ, lambda module: module in installed)
    except Refusal as found:
        assert found.reason is Reason.INVALID_CREW
        assert want is not None and want in found.message
    else:
        assert want is None


def test_without_memory_nothing_is_asked_for() -> None:
    memory.check({}, None, {}, lambda _: False)
    memory.check({"embedder": {"provider": "onnx"}}, OFF, {}, lambda _: False)


MIB = 2**20
USES: list[tuple[int, int, bool]] = [
    (89 * MIB, 100 * MIB, False),
    (90 * MIB, 100 * MIB, True),
    (120 * MIB, 100 * MIB, True),
]


@pytest.mark.parametrize(("usage", "limit", "want"), USES, ids=str)
def test_nine_tenths_of_the_limit_are_high(usage: int, limit: int, want: bool) -> None:
    said = cgroup.high(usage, limit)
    assert bool(said) is want
    assert said is None or f"{usage // MIB} MiB of its limit of 100 MiB" in said


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_both_kinds_of_cgroups_are_read_without_what_the_kernel_can_drop(tmp_path: Path) -> None:
    statistics = "anon 5\ninactive_file 30\ntotal_inactive_file 40"
    v2 = {"memory_DOT_current": "100", "memory_DOT_max": "500", "memory_DOT_stat": statistics}
    assert cgroup.read(write(tmp_path, **v2)) == (70, 500)
    write(tmp_path, memory_DOT_max="max")
    assert cgroup.read(tmp_path) is None
    (tmp_path / "memory.current").unlink()
    assert cgroup.read(tmp_path) is None
    (tmp_path / "memory").mkdir()
    for name, text in {"usage_in_bytes": "100", "limit_in_bytes": "500", "stat": statistics}.items():
        (tmp_path / f"memory/memory.{name}").write_text(text)
    assert cgroup.read(tmp_path) == (60, 500)


def test_memory_that_runs_out_is_said_once() -> None:
    looks = iter([(1, 100), (50, 100), (95, 100), (99, 100), (99, 100)])
    said: list[str] = []
    cgroup.watch(lambda event, **_: said.append(event), said.append, lambda: next(looks), 0.001)
    wait_for(lambda: len(said) > 1)
    assert said == ["memory_high", cgroup.high(95, 100)]
    assert next(looks) == (99, 100), "nobody looks any more"


def test_without_a_limit_nothing_is_watched() -> None:
    nothing = lambda *_, **__: pytest.fail("nothing to say")  # noqa: E731
    cgroup.watch(nothing, nothing, lambda: None, 0.001)
