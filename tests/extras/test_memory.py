"""CrewAI's memory with the extra memory: kept between runs, counted, bounded."""

import fcntl
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_testing import ThreadedLLM
from tests.extras.embedding_server import EmbeddingServer
from tests.runner.harness import ROOT, Finished, Runner, crew, runner_python

FACT = "The wombats of Ulm number 48."
METADATA: dict[str, list[str]] = {"entities": [], "dates": [], "topics": []}
ANALYSIS = {"suggested_scope": "/", "categories": [], "importance": 0.5, "extracted_metadata": METADATA}
PLAN = {"actions": [], "insert_new": True, "insert_reason": "new"}
SCRIPT = {
    "rules": [
        {"match": {"system": "^You extract discrete"}, "replies": [{"text": json.dumps({"memories": [FACT]})}]},
        {"match": {"system": "^You analyze content to be"}, "replies": [{"text": json.dumps(ANALYSIS)}]},
        {"match": {"system": "^You are comparing new"}, "replies": [{"text": json.dumps(PLAN)}]},
        {"name": "remembering", "match": {"anyMessage": FACT}, "replies": [{"text": "I remember."}]},
    ],
    "default": {"text": "I know nothing yet."},
}
FILL = """
import json, os, sys
from datetime import datetime, timedelta
from pathlib import Path
from crewai.memory.storage.lancedb_storage import LanceDBStorage
from crewai.memory.types import MemoryRecord
from crewrun_runner import store

folder = Path(sys.argv[1])
storage = LanceDBStorage(path=folder, compact_every=0)
for day in range(12):
    moment = datetime(2026, 1, 1) + timedelta(days=day)
    record = MemoryRecord(id=str(day), content=os.urandom(50_000).hex(), created_at=moment, embedding=[float(day)] * 16)
    storage.save([record])
whole = store.taken(folder)
events = []
store.use(folder, whole // 3, lambda event, **fields: events.append(event))
days = sorted(int(row["id"]) for row in storage._db.open_table("memories").search().select(["id"]).to_list())
print(json.dumps({"fits": store.taken(folder) <= whole // 3, "days": days, "events": events}))
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir()
    return folder


def run(llm: ThreadedLLM, folder: Path, definition: dict[str, Any] | None = None, **env: str) -> Finished:
    folder.mkdir()
    runner = Runner(runner_python("memory"), folder, llm.base_url)
    return runner.run(definition or crew(), memory={"enabled": True}, env=env)


def test_a_crew_remembers_what_a_run_before_it_found_out(llm: ThreadedLLM, tmp_path: Path, store: Path) -> None:
    llm.set_script(SCRIPT)
    with EmbeddingServer() as server:
        env = {names.ENV_MEMORY_DIR: str(store), "OPENAI_API_BASE": server.url}
        first, second = run(llm, tmp_path / "1", **env), run(llm, tmp_path / "2", **env)
    answers = [finished.end.output.value for finished in (first, second) if finished.end.output]
    assert answers == ["I know nothing yet.", "I remember."]
    assert server.texts


def test_calls_that_memory_makes_are_counted_like_any_other(llm: ThreadedLLM, tmp_path: Path, store: Path) -> None:
    llm.set_script(SCRIPT)
    with EmbeddingServer() as server:
        env = {names.ENV_MEMORY_DIR: str(store), "OPENAI_API_BASE": server.url}
        usage = run(llm, tmp_path / "1", **env).end.usage
    totals = llm.ledger.totals
    assert totals.calls > 1
    counted = (usage.requests, usage.prompt_tokens, usage.completion_tokens)
    assert counted == (totals.calls, totals.prompt_tokens, totals.completion_tokens)


REFUSED: list[tuple[dict[str, Any], dict[str, str], str]] = [
    (crew(), {"OPENAI_API_KEY": ""}, "OPENAI_API_KEY is not set"),
    (crew(embedder={"provider": "onnx"}), {}, "would download a model"),
    (crew(embedder={"provider": "cohere", "config": {"api_key": "k"}}), {}, "the image has no module cohere"),
    (crew(embedder={"provider": "nobody"}), {}, "the definition does not load"),
]


@pytest.mark.parametrize(("definition", "env", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_an_embedder_that_is_not_there_is_refused_before_a_call(
    llm: ThreadedLLM, tmp_path: Path, definition: dict[str, Any], env: dict[str, str], text: str
) -> None:
    finished = run(llm, tmp_path / "1", definition, **env)
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, Reason.INVALID_CREW)
    assert text in finished.end.message
    assert llm.ledger.totals.calls == 0


def test_a_definition_without_memory_is_stronger_than_the_profile(llm: ThreadedLLM, tmp_path: Path) -> None:
    finished = run(llm, tmp_path / "1", crew(memory=False), OPENAI_API_KEY="sk-other")
    assert finished.end.outcome is Outcome.SUCCEEDED
    assert llm.ledger.totals.calls == 1


def fill_and_use(store: Path) -> dict[str, Any]:
    """Twelve records, one a day, and then a run that may keep a third of what they take."""
    env = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner-image'}", "HOME": str(store.parent)}
    command = [runner_python("memory"), "-c", FILL, str(store)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, timeout=120)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_the_oldest_quarter_goes_first_until_the_store_fits(store: Path) -> None:
    seen = fill_and_use(store)
    assert seen["fits"] and seen["events"] == ["memory_trimmed"]
    assert seen["days"] and seen["days"] == list(range(12 - len(seen["days"]), 12)), "the newest stay"


def test_a_store_that_cannot_be_written_is_said_clearly(llm: ThreadedLLM, tmp_path: Path) -> None:
    finished = run(llm, tmp_path / "1", **{names.ENV_MEMORY_DIR: "/proc/1"})
    assert finished.end.reason is Reason.INVALID_CREW
    assert "memory: /proc/1 cannot be written" in finished.end.message


def test_nothing_is_removed_under_a_run_that_uses_the_store(store: Path) -> None:
    held = os.open(store / ".crewrun.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_SH)
    try:
        assert fill_and_use(store) == {"fits": False, "days": list(range(12)), "events": ["memory_in_use"]}
    finally:
        os.close(held)
