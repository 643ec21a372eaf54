"""A traceparent: what is valid, and what counts as absent."""

import pytest

from crewrun_api.traceparent import Traceparent, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "want_sampled"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", True, id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", False, id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", True, id="other flags"),
        pytest.param(f"01-{TRACE}-{SPAN}-01-more", True, id="a later version with more"),
    ],
)
def test_a_valid_one_names_a_span(text: str, want_sampled: bool) -> None:
    assert parse(text) == Traceparent(int(TRACE, 16), int(SPAN, 16), want_sampled)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(f"00-{TRACE}-{SPAN}", id="no flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", id="more than the version has"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="no version"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="upper case"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", id="a line feed"),
        pytest.param(f"01-{TRACE}-{SPAN}-01-{'x' * 300}", id="much too long"),
    ],
)
def test_any_other_counts_as_absent(text: str) -> None:
    assert parse(text) is None
