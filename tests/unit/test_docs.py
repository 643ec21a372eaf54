"""What the documents say of the contract is what the code does."""

import re
from pathlib import Path

from crewrun_api.reasons import AcceptedReason, ExitCode, Reason, TTLIgnoredReason
from crewrun_operator.retry import TABLE, Next

REASONS = (Path(__file__).parents[2] / "docs/reference/reasons.md").read_text()
SAID = {Next.RETRY: "yes", Next.FAIL: "no", Next.DISRUPTED: "disruption", Next.AGAIN: "uncounted"}


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the first table after a heading, by the name in the first column."""
    section = REASONS.split(heading, 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines}


def test_every_reason_is_explained_with_what_follows_it() -> None:
    explained = rows("# Reasons")
    assert explained.keys() == {str(reason) for reason in Reason}
    for reason, (_, retried, what_to_do) in explained.items():
        want = "no" if reason == Reason.COMPLETED else SAID[TABLE[Reason(reason)]]
        assert (retried, bool(what_to_do)) == (want, True), reason


def test_every_reason_of_a_refusal_is_explained() -> None:
    assert rows("## Reasons of").keys() == {str(reason) for reason in AcceptedReason} - {"Valid"}


def test_every_reason_of_a_run_that_is_kept_is_explained() -> None:
    assert rows("## Reasons of `TTLIgnored").keys() == {str(reason) for reason in TTLIgnoredReason}


def test_every_exit_code_is_named() -> None:
    section = REASONS.split("## Exit codes", 1)[1]
    for code in ExitCode:
        assert re.search(rf"\b{code.value}\b", section), code
