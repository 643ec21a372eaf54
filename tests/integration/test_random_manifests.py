"""500 random manifests on a real API server: each is refused with a path, or the operator decides about it."""

import json
import math
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from kubernetes import watch
from kubernetes.client import ApiException

from tests.support.kube import GROUP, VERSION, Document, Kube, condition, crew, document, phase, run
from tests.support.manifests import drawn
from tests.support.operator import Operator

MANIFESTS = 500
DECIDED_SECONDS = 60
PLURALS = {"CrewRun": "crewruns", "Crew": "crews", "CrewProfile": "crewprofiles"}
PATH = re.compile(r"\b(spec|status|metadata|ObjectMeta)\b|unknown field")
Key = tuple[str, str]


def test_500_random_manifests_are_refused_with_a_path_or_decided(kube: Kube, operator: Operator) -> None:
    others, profiles = kube.within("random"), kube.within("random-profiles")  # a default profile concerns all runs
    spaces = {"CrewRun": others, "Crew": others, "CrewProfile": profiles}
    for space in (others, profiles):
        space.apply(crew("fine"), document("CrewProfile", "plain", {}))
    errors, process, begun = reconcile_errors(operator), operator.process.pid, run_list_version(kube)

    manifests = drawn(MANIFESTS)
    answers = create_all([(spaces[manifest["kind"]], manifest) for manifest in manifests])
    refused = [(answer, m) for m, answer in zip(manifests, answers, strict=True) if answer]
    passed = [m for m, answer in zip(manifests, answers, strict=True) if not answer]
    asking = [(spaces[m["kind"]], run_with(m)) for m in passed if m["kind"] != "CrewRun"]
    assert not any(create_all(asking))
    given = [(spaces["CrewRun"], m) for m in passed if m["kind"] == "CrewRun"]
    decided = await_decisions(kube, {(s.namespace, m["metadata"]["name"]) for s, m in [*given, *asking]}, begun)

    verdicts = Counter(verdict(each) for each in decided.values())
    print(f"\n{MANIFESTS} applied, {len(refused)} refused by the API server; {len(decided)} runs: {dict(verdicts)}")
    assert_none([each for each in refused if not names_a_path(each[0])], "refusals of the API server name no path")
    assert_none([brief(each) for each in decided.values() if not says_where(each)], "decisions name no path")
    assert reconcile_errors(operator) == errors, operator.log.read_text()[-5000:]
    assert (operator.process.poll(), operator.process.pid) == (None, process)
    assert len(refused) > MANIFESTS / 4
    assert len(passed) > MANIFESTS / 3
    assert min(verdicts["accepted"], verdicts["not accepted"]) > len(decided) / 5
    assert verdicts["failed"] > 0


def create_all(wanted: Sequence[tuple[Kube, Document]]) -> list[Document | None]:
    """Create them as kubectl does, eight at a time; the Status with which the API server refuses, or None."""

    def create(space: Kube, manifest: Document) -> Document | None:
        plural = PLURALS[manifest["kind"]]
        try:
            space.custom.create_namespaced_custom_object(
                GROUP, VERSION, space.namespace, plural, manifest, field_validation="Strict"
            )
        except ApiException as error:
            status: Document = json.loads(error.body)
            return status
        return None

    with ThreadPoolExecutor(8) as pool:
        return [*pool.map(lambda each: create(*each), wanted)]


def run_with(source: Document) -> Document:
    """A run that makes the operator read this Crew or CrewProfile."""
    name = source["metadata"]["name"]
    return run(name, name) if source["kind"] == "Crew" else run(name, "fine", profile=name)


def run_list_version(kube: Kube) -> str:
    listed = kube.custom.list_cluster_custom_object(GROUP, VERSION, "crewruns", limit=1)
    return str(listed["metadata"]["resourceVersion"])


def await_decisions(kube: Kube, wanted: set[Key], since: str) -> dict[Key, Document]:
    """Each run as soon as it is decided; they are watched from their beginning, since some are soon deleted.

    The API server ends a watch whose reader is slower than its runs; then the next one goes on.
    """
    decided: dict[Key, Document] = {}
    latest: dict[Key, Document] = {}
    deadline = time.monotonic() + DECIDED_SECONDS
    while decided.keys() != wanted and time.monotonic() < deadline:
        watching = watch.Watch()
        for event in watching.stream(
            kube.custom.list_cluster_custom_object,
            GROUP,
            VERSION,
            "crewruns",
            resource_version=since,
            timeout_seconds=math.ceil(deadline - time.monotonic()),
        ):
            each = event["object"]
            since, key = each["metadata"]["resourceVersion"], (each["metadata"]["namespace"], each["metadata"]["name"])
            latest[key] = each
            if key in wanted and is_decided(each):
                decided[key] = each
            if decided.keys() == wanted:
                watching.stop()
    waiting = sorted(wanted - decided.keys())
    assert_none([brief(latest[key]) if key in latest else key for key in waiting], "runs are not decided")
    return decided


def is_decided(each: Document) -> bool:
    """Not accepted, ended, suspended, or past the making of its Job: then it runs, or is told why it does not."""
    if each["status"]["observedGeneration"] != each["metadata"]["generation"] or verdict(each) == "undecided":
        return False
    return verdict(each) != "accepted" or "is being started" not in condition(each, "Succeeded")["message"]


def verdict(each: Document) -> str:
    if phase(each) in ("Failed", "Cancelled", "Suspended"):
        return phase(each).lower()
    return {"True": "accepted", "False": "not accepted"}.get(condition(each, "Accepted").get("status"), "undecided")


def says_where(each: Document) -> bool:
    """Whether a run that is not accepted, or failed, names the field. Of a quantity the API server names none."""
    told = {"not accepted": "Accepted", "failed": "Succeeded"}.get(verdict(each))
    return told is None or bool(re.search(r"\bspec\b|quantities", condition(each, told)["message"]))


def brief(each: Document) -> list[object]:
    return [each["metadata"]["namespace"], each["metadata"]["name"], each["status"], each["spec"]]


def names_a_path(status: Document) -> bool:
    causes = (status.get("details") or {}).get("causes") or []
    return any(cause.get("field") for cause in causes) or bool(PATH.search(status["message"]))


def reconcile_errors(operator: Operator) -> float:
    with urllib.request.urlopen(f"{operator.url}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    return float(metrics.split("\ncrewrun_reconcile_errors_total ")[1].split()[0])


def assert_none(found: Sequence[object], what: str) -> None:
    shown = "\n\n".join(json.dumps(each)[:3000] for each in found[:5])
    if found:
        raise AssertionError(f"{len(found)} {what}\n{shown}")
