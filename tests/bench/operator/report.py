"""The figures as a section of docs/benchmarks.md, and the limits that they are held to. Pure."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

#: What was measured, by title and subject: one table of figures for each round.
Rounds = Mapping[str, Mapping[str, list[Mapping[str, float]]]]
BEGIN, END = "<!-- bench: written by `make bench` -->", "<!-- /bench -->"


def section(rounds: Rounds, machine: str) -> str:
    """All of it."""
    about = (
        f"`make bench` on {machine}, everything on it: API server, etcd, controllers, kwok, the client that makes the "
        "runs, and what is measured. Each round has a control plane of its own, and subjects take turns; starts among "
        "runs that have ended share one, and wait until it is at rest. Medians, with least and most. The oracle makes "
        "the same writes with no logic at all."
    )
    parts = [BEGIN, "## The operator", "", about, ""]
    for title, subjects in rounds.items():
        names = list(subjects)
        counts = ", ".join(sorted({str(len(each)) for each in subjects.values()}))
        parts += [
            f"### {title}",
            "",
            f"Rounds: {counts}.",
            "",
            f"| | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        keys = dict.fromkeys(key for each in subjects.values() for one in each for key in one)
        for key in keys:
            cells = [_cell([one[key] for one in subjects[name] if key in one]) for name in names]
            parts.append(f"| {key} | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join([*parts, END])


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    middle = f"{median(values):.2f}"
    return f"{middle} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else middle


def put(page: str, text: str) -> str:
    """The page with this section in the place of its former one, or at the end."""
    before, begin, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if begin else ""
    return f"{before.rstrip()}\n\n{text}\n{after.lstrip() and chr(10) + after.lstrip()}"


def broken(rounds: Rounds, limits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Each limit that the figures do not keep, or that nothing was measured for."""
    for title, its in limits.items():
        ours = rounds.get(title, {}).get("CrewRun", [])
        oracle = rounds.get(title, {}).get("oracle", [])
        for key, limit in its.items():
            ratio = key.startswith("ratio: ")
            name = key.removeprefix("ratio: ")
            found = _median(ours, name)
            base = _median(oracle, name) if ratio else 1.0
            if found is None or base is None:
                yield f"{title}: {key}: not measured"
                continue
            value = found / base
            if "most" in limit and value > limit["most"]:
                yield f"{title}: {key}: {value:.2f} is more than {limit['most']}"
            if "least" in limit and value < limit["least"]:
                yield f"{title}: {key}: {value:.2f} is less than {limit['least']}"


def _median(rounds: list[Mapping[str, float]], key: str) -> float | None:
    values = [each[key] for each in rounds if key in each]
    return median(values) if values else None
