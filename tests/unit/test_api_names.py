"""Names of what CrewRun makes: valid, deterministic, never shared by two runs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewrun_api import names

UID = "0f3ab111-1111-4111-8111-111111111111"
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_part = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
run_names = st.lists(_part, min_size=1, max_size=5).map(".".join).map(lambda name: name[:253].rstrip("-."))


@pytest.mark.parametrize(
    ("run", "attempt", "want_name"),
    [
        pytest.param("research-x7k2p", 1, "research-x7k2p-0f3ab-1", id="as the manifests show it"),
        pytest.param("research", 12, "research-0f3ab-12", id="later attempt"),
        pytest.param("a.b", 1, "a-b-0f3ab-1", id="a dot is no part of a host name"),
        pytest.param("r" * 49, 1, "r" * 49 + "-0f3ab-1", id="the longest that fits"),
        pytest.param("r" * 200, 1, "r" * 40 + "-06331dea-0f3ab-1", id="200 characters"),
    ],
)
def test_a_job_is_called_by_run_uid_and_attempt(run: str, attempt: int, want_name: str) -> None:
    assert names.job_name(run, UID, attempt) == want_name


@given(run=run_names, attempt=st.integers(1, 9999))
def test_a_job_and_its_pod_are_dns_labels_for_every_run(run: str, attempt: int) -> None:
    name = names.job_name(run, UID, attempt)
    assert DNS_LABEL.fullmatch(name)
    assert len(name) + len("-abcde") <= 63
    assert name.endswith(f"-0f3ab-{attempt}")
    assert name == names.job_name(run, UID, attempt)


@given(run=run_names, attempts=st.integers(1, 9999))
def test_the_job_of_a_webhook_and_its_pod_are_dns_labels_too_and_no_attempts(run: str, attempts: int) -> None:
    name = names.webhook_job_name(run, UID, attempts)
    assert DNS_LABEL.fullmatch(name)
    assert len(name) + len("-abcde") <= 63
    assert name.endswith(f"-0f3ab-hook-{attempts}")
    assert name not in {names.job_name(run, UID, attempts), names.webhook_job_name(run, UID, attempts + 1)}


@given(run=run_names)
def test_a_label_value_is_valid_for_every_run(run: str) -> None:
    label = names.run_label(run)
    assert LABEL_VALUE.fullmatch(label)
    assert len(label) <= 63


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("r" * 200 + "a", "r" * 200 + "b", id="long names that differ at the end"),
        pytest.param("r" * 64, "r" * 65, id="long names of different length"),
    ],
)
def test_two_long_names_stay_two(one: str, other: str) -> None:
    assert names.run_label(one) != names.run_label(other)
    assert names.job_name(one, UID, 1) != names.job_name(other, UID, 1)


def test_a_run_made_again_under_its_name_never_meets_the_jobs_of_the_first() -> None:
    assert names.job_name("r", UID, 1) != names.job_name("r", "1" + UID[1:], 1)


def test_attempts_of_one_run_have_their_own_jobs() -> None:
    assert len({names.job_name("r" * 200, UID, attempt) for attempt in range(1, 200)}) == 199


def test_the_digest_tells_where_the_spec_ends_and_the_inputs_begin() -> None:
    assert names.payload_digest(b"ab", b"c") != names.payload_digest(b"a", b"bc")
    want_digest = "sha256:8384c3416334fdeac97a1facd407750c98d6470238704db0504afe5ed3010176"
    assert names.payload_digest(b"{}", b"{}") == want_digest
