"""The commands of the documents are found, and each document says what becomes of them."""

import subprocess
from pathlib import Path

import pytest

from tests.support.doc_commands import Command, blocks, scripts

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize(
    ("block", "want_commands"),
    [
        ("```console\n$ a\nprinted\n$ b\n```", [Command("a"), Command("b")]),
        ("```sh\na\n\nb\n```", [Command("a"), Command("b")]),
        ("```console\n$ a \\\n    --more\nprinted\n```", [Command("a \\\n    --more")]),
        ("```console\n$ a <<'EOF'\nx: 1\nEOF\nprinted\n```", [Command("a <<'EOF'\nx: 1\nEOF")]),
        ("```console\n$ a <<EOF | b\n$ x\nEOF\n$ c\n```", [Command("a <<EOF | b\n$ x\nEOF"), Command("c")]),
        ("```console\n$ a\nno\n$ b\nnot there\n```", [Command("a", "no"), Command("b")]),
        ("```console\n$ a\nError from server (Forbidden): ...\n```", [Command("a", "Error from server (Forbidden):")]),
    ],
)
def test_a_block_has_commands_and_what_they_print(block: str, want_commands: list[Command]) -> None:
    (found,) = blocks(f"Text.\n\n<!-- test: one -->\n{block}\n")
    assert (found.script, found.commands) == ("one", want_commands)


def test_other_fences_are_no_commands() -> None:
    assert blocks("```yaml\n$ a\n```\n") == []


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("$ true\n$ echo it\\'s", 0),
        ("$ false\n$ true", 1),
        ("$ echo no; false\nno", 0),
        ("$ echo no\nno", 1),
        ("$ echo 'Error from here: it is so'; false\nError from here: ...", 0),
        ("$ echo 'Error from there'; false\nError from here: ...", 1),
        ("$ cat <<'EOF' && false\nError: x\nEOF\nError: x", 0),
    ],
)
def test_a_script_fails_where_a_command_does_what_the_document_does_not_say(
    tmp_path: Path, text: str, want: int
) -> None:
    document = tmp_path / "guide.md"
    document.write_text(f"<!-- test: one -->\n```console\n{text}\n```\n")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", scripts(document)["one"]], capture_output=True, text=True)
    assert (done.returncode, done.stdout.startswith("== guide.md, block at line 2: ")) == (want, True), done.stdout


def test_the_blocks_of_one_name_are_one_script_in_their_order(tmp_path: Path) -> None:
    document = tmp_path / "guide.md"
    parts = ["<!-- test: one -->\n```sh\na\n```", "<!-- not tested: why -->\n```sh\nb\n```"]
    document.write_text("\n\n".join([*parts, "<!-- test: one -->\n\n```sh\nc 'd'\n```"]) + "\n")
    want = "echo '== guide.md, block at line 2: a'\na\necho '== guide.md, block at line 13: c '\\''d'\\'''\nc 'd'\n"
    assert scripts(document) == {"one": want}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_of_a_document_is_run_or_says_why_not(document: Path) -> None:
    silent = [block.line for block in blocks(document.read_text()) if block.script is None and block.reason is None]
    assert silent == [], (
        f"{document.relative_to(ROOT)}: a block of commands has no comment that says what becomes of it"
    )
