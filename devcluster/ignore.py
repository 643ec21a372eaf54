"""Which files of a build context .dockerignore leaves out: the builders' rules, in short.

Patterns are relative to the context's top, `**` crosses folders, a `!` line takes files back in,
and the last line that matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def to_regex(pattern: str) -> re.Pattern[str]:
    """A pattern as an expression that also matches everything below what it names. Pure."""
    parts: list[str] = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/")):
        parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece)))
    return re.compile("".join(parts) + r"(?:/.*)?\Z")


@dataclass(frozen=True)
class Ignore:
    rules: tuple[tuple[bool, re.Pattern[str]], ...]
    """Whether a match leaves out (or takes in), and the expression."""

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Ignore:
        wanted = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        return cls(tuple((not line.startswith("!"), to_regex(line.removeprefix("!"))) for line in wanted))

    @classmethod
    def of(cls, context: Path) -> Ignore:
        path = context / ".dockerignore"
        return cls.parse(path.read_text().splitlines() if path.is_file() else [])

    def matches(self, path: str) -> bool:
        """Whether this file is left out."""
        ignored = False
        for leaves_out, expression in self.rules:
            if expression.match(path):
                ignored = leaves_out
        return ignored

    def whole_folder(self, path: str) -> bool:
        """Whether a walk may skip this folder: nothing below it can be taken back in."""
        return self.matches(path) and all(leaves_out for leaves_out, _ in self.rules)
