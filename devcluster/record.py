"""What one cluster consists of, written to its state folder as things are made.

An entry is written before the thing is made wherever the name is known before, so that a crash
between the two leaves an entry too many and never one too few.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster.errors import DevClusterError
from devcluster.paths import Layout
from devcluster.processes import Process


@dataclass
class Record:
    provider: str
    size: str
    ready: bool = False
    """Set as the last step of `up`: without it the cluster is half made."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What `up` was asked for; a second `up` that asks for the same is done."""
    processes: list[Process] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    """Kernel settings as they were before `up` changed them."""
    folders: list[str] = field(default_factory=list)
    """System folders that the runtime makes and that were not there before, the innermost first."""
    subnet: str = ""
    """The bridge's network, of a node-size cluster."""
    loaded: dict[str, str] = field(default_factory=dict)
    """Image tag to the digest of the configuration that was loaded under it."""

    def process(self, name: str) -> Process | None:
        return next((process for process in self.processes if process.name == name), None)

    def save(self, layout: Layout) -> None:
        """Write the record whole or not at all."""
        layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = {**self.__dict__, "processes": [process.to_json() for process in self.processes]}
        making = layout.record.with_suffix(".making")
        making.write_text(json.dumps(data, indent=1) + "\n")
        making.replace(layout.record)

    @classmethod
    def load(cls, layout: Layout) -> Record | None:
        try:
            data = json.loads(layout.record.read_text())
            data["processes"] = [Process.from_json(entry) for entry in data["processes"]]
            return cls(**data)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DevClusterError(
                f"the record of cluster {layout.name!r} at {layout.record} cannot be read: {error}",
                hint=f"if it was made by another version, remove {layout.record} and run "
                "`python -m devcluster down` again",
            ) from error


def refuse_foreign_folder(state: Path) -> None:
    """`down` deletes in the state folder, so `up` takes only a new or an empty one, or one of its own."""
    if not state.exists():
        return
    foreign = [entry.name for entry in state.iterdir()]
    if foreign and not (state / "state.json").exists():
        raise DevClusterError(
            f"{state} is not empty and is not a devcluster's ({', '.join(sorted(foreign)[:5])}).",
            hint="give --state-dir a folder of its own",
        )
