"""`python -m crewrun_testing`: exit codes, the line it prints, and a prompt end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crewrun_testing import ThreadedLLM
from crewrun_testing.__main__ import main


def in_flight(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/ledger")
    totals: dict[str, int] = json.loads(connection.getresponse().read())["totals"]
    return totals["inFlight"]


def test_a_wrong_script_is_exit_code_2_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("rules: [{replies: []}]")
    assert main(["--script", str(path)]) == 2
    assert f"{path}: the script cannot be used:\n  rules[0].replies: List" in capsys.readouterr().err


def test_a_taken_port_is_exit_code_1_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadedLLM() as llm:
        assert main(["--port", str(llm.port)]) == 1
        assert f"cannot listen on 127.0.0.1:{llm.port}" in capsys.readouterr().err


def test_it_serves_until_sigterm_and_ends_with_0_also_while_a_request_is_held(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("default: {fault: timeout}")
    command = [sys.executable, "-m", "crewrun_testing", "--script", str(path), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("scripted LLM: 0 rules, listening on http://127.0.0.1:")
            address = line.split()[-1].removeprefix("http://").removesuffix("/v1")
            held, asking = (http.client.HTTPConnection(address, timeout=10) for _ in range(2))
            with contextlib.closing(held), contextlib.closing(asking):
                body = b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
                held.request("POST", "/v1/chat/completions", body)
                while in_flight(asking) == 0:
                    pass
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=10) == 0
        finally:
            process.kill()
