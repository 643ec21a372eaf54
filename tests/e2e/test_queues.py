"""Queues with real runners: who waits begins when a place is free, and a queue that is drained costs no token twice."""

import json
from itertools import pairwise

from tests.e2e.conftest import Space
from tests.e2e.test_resume import check_resumed, in_the_fourth_call
from tests.support.five_tasks import asked
from tests.support.kube import condition, crew, document, run


def change_queue(own: Space, **spec: object) -> None:
    own.kube.kubectl("patch", "crewqueue", "lane", "--type=merge", "-p", json.dumps({"spec": spec}))


def test_a_drained_queue_stops_a_runner_which_goes_on_where_it_was(own: Space) -> None:
    own.kube.apply(document("CrewQueue", "lane", {"maxConcurrentRuns": 1}))
    in_the_fourth_call(own, queue="lane")
    change_queue(own, stopPolicy="HoldAndDrain")
    stopped = own.kube.await_phase("r", "Queued")
    assert [(a["outcome"], a["reason"]) for a in stopped["status"]["attempts"]] == [("Stopped", "QueueStopped")]
    assert condition(stopped, "Admitted")["reason"] == "QueueStopped"
    own.kube.kubectl("wait", "pods", "--all", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
    assert asked(own.calls) == ["t1", "t2", "t3", "t4"], "nothing is asked while the queue is drained"
    change_queue(own, stopPolicy="None")
    check_resumed(own, "QueueStopped", None)
    own.kube.kubectl("wait", "crewqueue/lane", "--for=jsonpath={.status.running}=0", "--timeout=60s")
    queue = own.kube.get("crewqueue", "lane")["status"]
    assert (queue["pending"], queue["admitted"]) == (0, 2)


def test_who_waits_begins_when_the_place_is_free(own: Space) -> None:
    own.kube.apply(crew("one"), document("CrewQueue", "lane", {"default": True, "maxConcurrentRuns": 1}))
    own.kube.apply(*(run(f"r-{number}", "one") for number in range(3)))
    ended = [own.kube.await_end(f"r-{number}")["status"] for number in range(3)]
    assert {each["phase"] for each in ended} == {"Succeeded"}
    spans = sorted((each["startTime"], each["completionTime"]) for each in ended)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans)), spans
