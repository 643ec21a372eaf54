"""The store of CrewAI's memory: where it is, and that it stays within its size.

Each run holds a shared lock on the store for as long as its process lives. Removing needs the lock alone, so
that nothing is removed under a run that uses the same claim: then the store is as it is, until a run starts
while no other one runs.
"""

import fcntl
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from crewai.memory.storage.factory import set_memory_storage_factory

from crewrun_api.reasons import Reason
from crewrun_runner.refusal import Refusal
from crewrun_runner.streams import Log

_TABLE = "memories"
_LOCK = ".crewrun.lock"
_locks: list[int] = []  # open until the process ends


def use(folder: Path, size: int, log: Log) -> None:
    """From now on CrewAI's memory is in this folder, which has at most so many bytes now."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        text = (
            f"memory: {folder} cannot be written ({error.strerror}); the claim must be writable for group {os.getgid()}"
        )
        raise Refusal(Reason.INVALID_CREW, text) from error
    _locks.append(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody has it, or the volume has no locks
        log("memory_in_use", message="other runs may use this memory: its size is not looked at now")
    else:
        if removed := trim(folder, size):
            text = f"the memory was larger than memory.size: its {removed} oldest records were removed"
            log("memory_trimmed", level="warning", message=text)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_SH)

    def storage(name: str) -> Any:
        from crewai.memory.storage.lancedb_storage import LanceDBStorage

        return LanceDBStorage(path=folder) if name == "lancedb" else None

    set_memory_storage_factory(storage)


def trim(folder: Path, size: int) -> int:
    """Removes the oldest quarter of the records until the files fit; how many went."""
    if taken(folder) <= size:
        return 0
    import lancedb

    database = lancedb.connect(str(folder))
    removed = 0
    try:
        table = database.open_table(_TABLE)
    except (FileNotFoundError, ValueError):  # no crew has remembered anything yet
        return 0
    _reclaim(table)
    while taken(folder) > size and (count := table.count_rows()):
        rows = table.search().select(["id", "created_at"]).limit(count).to_list()
        oldest = sorted(rows, key=lambda row: str(row["created_at"]))[: -(-count // 4)]
        quoted = ", ".join("'" + str(row["id"]).replace("'", "''") + "'" for row in oldest)
        table.delete(f"id IN ({quoted})")
        removed += len(oldest)
        _reclaim(table)
    return removed


def _reclaim(table: Any) -> None:
    """Lance keeps every former version of a table until it is told not to."""
    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def taken(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
