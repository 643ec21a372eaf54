"""What leaves the process: log lines, connections, and no secret."""

import base64

from crewrun_api.reasons import Outcome, Reason
from crewrun_runner.streams import FIELDS
from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, Runner, crew, task

WATCHED = """
import sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        sys.stderr.write("CONNECT %s\\n" % arguments[1][0])
    elif event == "socket.getaddrinfo":
        sys.stderr.write("LOOKUP %s\\n" % arguments[0])
sys.addaudithook(watch)
import runpy
runpy.run_module("crewrun_runner", run_name="__main__")
"""
PROMPT, ANSWER = "quokkas in spring", "an answer about wombats"


def test_only_the_llm_endpoint_is_contacted(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(), arguments=("-c", WATCHED), env={"CREWAI_TRACING_ENABLED": "true"})
    assert finished.end.outcome is Outcome.SUCCEEDED
    seen = {line for line in finished.stderr.splitlines() if line.startswith(("CONNECT", "LOOKUP"))}
    assert seen == {"CONNECT 127.0.0.1", "LOOKUP 127.0.0.1"}


def test_every_line_of_stdout_is_an_event_without_prompts_or_answers(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"text": ANSWER}})
    finished = runner.run(crew(task("facts", "researcher"), task("report")), inputs={"topic": PROMPT})
    events = [line["event"] for line in finished.lines]
    assert events == [
        "runner_started",
        "crew_loaded",
        *["task_started", "llm_call_completed", "task_completed"] * 2,
        "run_completed",
    ]
    for line in finished.lines:
        assert list(line) == [name for name in FIELDS if name in line]
        assert (line["run"], line["attempt"]) == ("team-a/research-x7k2p", 2)
    assert PROMPT not in finished.stdout + finished.stderr
    assert ANSWER not in finished.stdout + finished.stderr
    assert finished.end.tasks[0].preview == ANSWER


def test_verbose_output_of_crewai_goes_to_stderr(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"text": ANSWER}})
    finished = runner.run(crew(), verbose=True)
    assert ANSWER in finished.stderr
    assert [line["event"] for line in finished.lines if ANSWER in str(line)] == ["llm_call_completed"]


def test_a_secret_that_everything_echoes_is_redacted_everywhere(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"fault": {"status": 401, "echoKey": True}}})
    failed = runner.run(crew(), verbose=True, env={"OTHER_TOKEN": "tok-9f31c0d2"}, inputs={"topic": "tok-9f31c0d2"})
    assert failed.end.reason is Reason.LLM_AUTHENTICATION
    assert "[redacted]" in failed.end.message
    assert KEY not in failed.everything
    assert "tok-9f31c0d2" not in failed.everything


def test_a_secret_in_an_answer_is_redacted_from_record_and_log(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"text": f"The key is {KEY}, I think."}})
    finished = runner.run(crew(), verbose=True)
    assert finished.end.output is not None
    assert finished.end.output.value == "The key is [redacted], I think."
    assert KEY not in finished.everything
    assert base64.b64encode(KEY.encode()).decode() not in finished.everything


def test_a_large_answer_is_cut_and_says_so(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"text": "é" * 6000}})
    finished = runner.run(crew())
    assert len(finished.message) <= 4000
    output = finished.end.output
    assert output is not None and output.truncated and output.bytes == 12000
