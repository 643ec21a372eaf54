"""The commands that stand in the documents, as scripts that can be run. Purely computational.

A fenced block of `console`, `sh` or `bash` follows a comment that says what becomes of it:

    <!-- test: NAME -->            it is run; all blocks of one document with one name are one script
    <!-- not tested: WHY -->       it is not, for this reason

In a block with prompts (`$ `) a command is the rest of the line, and more lines while it ends in a backslash or a
here-document is open; everything else is what it prints. Of that only a refusal counts: a command that prints `no` or
`Error ...` has to fail, with the words that stand there up to an ellipsis. Without prompts every line is a command.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(console|sh|bash)$")
_MARK = re.compile(r"^<!-- (?:test: (?P<script>[\w-]+)|not tested: (?P<reason>.+)) -->$")
_HERE = re.compile(r"<<-?\s*'?(\w+)'?")
_REFUSAL = re.compile(r"^(no$|[Ee]rror\b)")
_PROMPT = "$ "


@dataclass(frozen=True)
class Command:
    """One command, its continuation included, and the words it is refused with."""

    text: str
    refusal: str | None = None


@dataclass(frozen=True)
class Block:
    """One block of commands."""

    line: int
    script: str | None
    reason: str | None
    commands: list[Command]


def blocks(text: str) -> list[Block]:
    """The blocks of commands in a document."""
    found, lines = [], text.split("\n")
    for number, line in enumerate(lines):
        if _FENCE.match(line):
            end = lines.index("```", number)
            before = next((each for each in reversed(lines[:number]) if each.strip()), "")
            mark = _MARK.match(before)
            script, reason = (mark["script"], mark["reason"]) if mark else (None, None)
            found.append(Block(number + 1, script, reason, list(_commands(lines[number + 1 : end]))))
    return found


def scripts(document: Path) -> dict[str, str]:
    """What is to be run of a document, by name. Each command says its line before it runs."""
    found: dict[str, str] = {}
    for block in blocks(document.read_text()):
        if block.script is not None:
            for command in block.commands:
                said = f"{document.name}, block at line {block.line}: {command.text.splitlines()[0]}"
                found[block.script] = found.get(block.script, "") + f"echo {_quoted(f'== {said}')}\n{_bash(command)}\n"
    return found


def _bash(command: Command) -> str:
    if command.refusal is None:
        return command.text
    wanted = _quoted(command.refusal)
    return (
        f"if refused=$({{ {command.text}\n}} 2>&1); then echo 'this was to be refused'; exit 1; fi\n"
        f'case "$refused" in *{wanted}*) ;; *) echo "$refused"; echo "was to say:" {wanted}; exit 1;; esac'
    )


def _commands(lines: list[str]) -> Iterator[Command]:
    if not any(line.startswith(_PROMPT) for line in lines):
        yield from (Command(line) for line in lines if line.strip())
        return
    starts = [number for number, line in enumerate(lines) if line.startswith(_PROMPT)]
    over = 0  # a line of a here-document may look like a prompt
    for start in starts:
        if start < over:
            continue
        over = _end(lines, start)
        text = "\n".join(lines[start:over]).removeprefix(_PROMPT)
        printed = lines[over] if over < len(lines) else ""
        yield Command(text, printed.split("...")[0].strip() if _REFUSAL.match(printed) else None)


def _end(lines: list[str], start: int) -> int:
    """The line after the command that starts here."""
    end = start
    while lines[end].endswith("\\"):
        end += 1
    if here := _HERE.search("\n".join(lines[start : end + 1])):
        end = next(number for number in range(end + 1, len(lines)) if lines[number].strip() == here[1])
    return end + 1


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
