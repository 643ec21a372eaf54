"""The figures as a section of docs/benchmarks.md. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.start import Start, medians

BEGIN, END = "<!-- bench-runner: written by `make bench-runner` -->", "<!-- /bench-runner -->"
TITLE = "# Benchmarks\n"


def section(
    starts: Mapping[str, list[Start]], held: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], machine: str
) -> str:
    """All of it. The last kind of start is ours; ratios are to it."""
    middle = {kind: medians(each) for kind, each in starts.items()}
    ours = list(middle.values())[-1]
    runs = len(next(iter(starts.values())))
    rows = [
        f"| {kind} | {one.cpu:.2f} | {one.wall:.2f} | {one.mib:.0f} | {one.cpu / ours.cpu:.1f} |"
        for kind, one in middle.items()
    ]
    loop = [f"| {one['runs']} | {one['mib']:.0f} | {one['threads']} | {one['objects']:,} |" for one in held]
    images = [f"| {name} | {size / 1e6:.0f} |" for name, size in sizes.items()]
    return "\n".join(
        [
            BEGIN,
            "## The runner",
            "",
            f"`make bench-runner` on {machine}.",
            "",
            f"From the start of the process. Medians of {runs} runs of each kind, interleaved; peak memory is the "
            "resident set. CPU is the user and system time of the process, in steps of 0.01 s; ratios hold within one "
            "table alone.",
            "",
            "| | CPU, s | wall, s | peak, MiB | CPU, ratio |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "Crews of two tasks one after another in one process, against the scripted LLM:",
            "",
            "| after runs | memory, MiB | threads | objects of Python |",
            "|---|---|---|---|",
            *loop,
            "",
            "What is between them is the garbage that waits for Python's next full collection, one in some 40 runs.",
            "",
            *(["Images, unpacked, with their base:", "", "| | MB |", "|---|---|", *images, ""] if images else []),
            END,
        ]
    )


def put(page: str, text: str) -> str:
    """The page with this section in the place of its former one, or at the end."""
    page = page or TITLE
    before, begin, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if begin else ""
    return f"{before.rstrip()}\n\n{text}\n{after.lstrip() and chr(10) + after.lstrip()}"
