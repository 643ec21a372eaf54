"""The tests of wrong manifests that run without a node, once more on the real cluster; and no call is made."""

from tests.e2e.conftest import Space
from tests.integration.test_refusals import (
    test_a_pod_that_the_api_server_refuses_fails_the_run_with_its_words,
    test_a_run_with_a_name_of_200_characters_works,
    test_the_api_server_refuses,
    test_the_operator_does_not_accept,
)
from tests.support.kube import crew, phase, run

__all__ = [
    "test_a_pod_that_the_api_server_refuses_fails_the_run_with_its_words",
    "test_a_run_with_a_name_of_200_characters_works",
    "test_the_api_server_refuses",
    "test_the_operator_does_not_accept",
]


def test_a_run_that_is_not_accepted_asks_no_model(own: Space) -> None:
    own.kube.apply(crew("fine"), run("r", "fine", inputs={}))
    refused = own.kube.await_phase("r", "Pending")
    assert (phase(refused), own.calls, own.kube.items("pods")) == ("Pending", [], [])
