"""Starting, recognizing and ending processes; the record of them; the order in which they end."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from devcluster.cleanup import stop_groups
from devcluster.errors import DevClusterError
from devcluster.paths import Layout
from devcluster.processes import Process, alive, marked, parse_stat, program_name, start, stop
from devcluster.record import Record, refuse_foreign_folder
from devcluster.waiting import wait_ready

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); signal.pause()"


def run(tmp_path: Path, program: str, name: str = "sleeper") -> Process:
    log = tmp_path / "logs" / f"{name}.log"
    return start(name, [sys.executable, "-c", program], log=log, state=tmp_path)


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    return run(tmp_path, "import signal; print('on', flush=True); signal.pause()")


def says_on(tmp_path: Path) -> bool:
    return (tmp_path / "logs" / "sleeper.log").read_text() == "on\n"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("7 (etcd) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1", ("S", 1, 4242)),
        ("8 (a) b) (c) Z 7 8 8 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 99 1 1", ("Z", 7, 99)),
    ],
)
def test_a_process_is_read_from_stat_whatever_its_name(text: str, want: tuple[str, int, int]) -> None:
    assert parse_stat(text) == want


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["/cache/crewrun-kube", "etcd", "--name=etcd"], "etcd"),
        (["/usr/bin/containerd", "--config", "x"], "containerd"),
        (["crewrun-kube"], "crewrun-kube"),
        ([""], ""),
    ],
)
def test_a_found_process_is_named_by_its_command_line(arguments: list[str], want: str) -> None:
    assert program_name(arguments) == want


def test_a_started_process_is_detached_and_found_by_its_mark(tmp_path: Path, sleeper: Process) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert [process.pid for process in marked(tmp_path)] == [sleeper.pid]
    assert marked(tmp_path / "another") == []

    stop([sleeper])

    assert marked(tmp_path) == []


def test_a_reused_pid_is_not_the_process(sleeper: Process) -> None:
    later = dataclasses.replace(sleeper, started=sleeper.started + 1)
    before_reboot = dataclasses.replace(sleeper, boot="another boot")

    stop([later, before_reboot])

    assert (alive(sleeper), alive(later), alive(before_reboot)) == (True, False, False)
    stop([sleeper])
    assert not alive(sleeper)


def test_a_process_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    process = run(tmp_path, STUBBORN)
    wait_ready(process, lambda: says_on(tmp_path), layout=Layout("x", tmp_path), seconds=20)

    stop([process], grace=0.1)

    assert not alive(process)


def test_waiting_for_a_process_that_ended_shows_its_last_words(tmp_path: Path) -> None:
    process = run(tmp_path, "print('bad flag'); raise SystemExit(2)")

    with pytest.raises(DevClusterError, match=r"(?s)sleeper ended right after its start.*bad flag.*Whole log: "):
        wait_ready(process, lambda: False, layout=Layout("x", tmp_path), seconds=20)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match=r"cannot start etcd .*/no/such/program"):
        start("etcd", ["/no/such/program"], log=tmp_path / "etcd.log", state=tmp_path)


def test_the_api_server_ends_before_etcd_and_after_its_clients() -> None:
    names = ["etcd", "kube-apiserver", "kube-scheduler", "containerd", "kubelet"]

    groups = stop_groups([Process(name, 1, 1, "boot") for name in names])

    assert [[process.name for process in group] for group in groups] == [
        ["kube-scheduler", "kubelet"],
        ["kube-apiserver"],
        ["etcd"],
        ["containerd"],
    ]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout("x", tmp_path / "x")
    record = Record("native", "node", ready=True, settings={"size": "node"}, subnet="10.200.0.0/24")
    record.processes.append(Process("etcd", 7, 42, "boot", (1, 2)))

    record.save(layout)

    assert Record.load(layout) == record


def test_no_record_means_no_cluster(tmp_path: Path) -> None:
    assert Record.load(Layout("x", tmp_path)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"provider": "native"}', '{"processes": [], "unknown": 1}'])
def test_a_record_that_cannot_be_read_says_where_it_is(tmp_path: Path, text: str) -> None:
    layout = Layout("x", tmp_path)
    layout.record.write_text(text)

    with pytest.raises(DevClusterError, match=str(layout.record)):
        Record.load(layout)


def test_a_folder_with_somebodys_files_is_not_taken_for_state(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")

    with pytest.raises(DevClusterError, match=r"thesis\.tex"):
        refuse_foreign_folder(tmp_path)
