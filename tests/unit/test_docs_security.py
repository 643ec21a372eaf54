"""What docs/security.md claims is shown by tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_claim_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named and named <= set(re.findall(r"def (test_\w+)", code)), named - set(re.findall(r"def (test_\w+)", code))
