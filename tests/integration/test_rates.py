"""A queue's rate, kept by real runners: they run here, as the Pods that kwok only pretends to run, and report to a real
operator. What they asked is read from the model's own log."""

from collections import Counter
from pathlib import Path

from crewrun_api import names
from crewrun_api.reasons import Outcome
from crewrun_testing import ThreadedLLM
from tests.integration.conftest import takes_reports
from tests.runner.harness import Runner, Running, runner_python, task, wait_for
from tests.runner.harness import crew as definition
from tests.support.kube import Kube, crew, document, phase, run
from tests.support.operator import Operator
from tests.support.reports import closed_port
from tests.support.stand_in import StandIn

RATE, CALLS = 120, 20
RUNS = ("a", "b", "c", "d")


def test_four_runs_share_the_rate_of_their_queue_over_a_kill_of_the_operator(
    kube: Kube, certificates: Path, tmp_path: Path
) -> None:
    space = kube.within("rates")
    space.apply(document("CrewQueue", "lane", {"default": True, "requestsPerMinute": RATE}), crew("never-ends"))
    with closed_port() as port, ThreadedLLM() as llm:
        settings = takes_reports(certificates, port)
        operator = Operator(kube.kubeconfig, tmp_path / "first.log", **settings).await_ready()
        runners: list[Running] = []
        try:
            space.apply(*(run(name, "never-ends") for name in RUNS))
            for name in RUNS:
                runners.append(start(StandIn.of(space, name, port, certificates), tmp_path / name, llm))
            wait_for(lambda: llm.ledger.totals.calls >= len(RUNS) * CALLS // 3, 120)
            operator.kill()
            operator = Operator(kube.kubeconfig, tmp_path / "second.log", **settings).await_ready()
            for name in RUNS:
                space.await_run(name, lambda its: phase(its) == "Succeeded")
            ends = [runner.finish().end.outcome for runner in runners]
        finally:
            operator.stop()
            for runner in runners:
                runner.process.kill()
                runner.process.wait()
        entries = llm.ledger.entries
    begun = entries[0].start_time
    print(f"\n{len(entries)} requests of {len(RUNS)} runs, {RATE} a minute, in {entries[-1].start_time - begun:.1f} s")
    for seconds in (5, 10, 20):
        most = max(
            sum(each.start_time <= one.start_time < each.start_time + seconds for one in entries) for each in entries
        )
        print(f"at most {most} in any {seconds} s; the rate is {RATE * seconds // 60}")
        assert most <= RATE * seconds // 60 + 2 * len(RUNS), "for each run one, and one that was late on its way"
    by_ten = Counter(int(each.start_time - begun) // 10 for each in entries)
    print("in each 10 s:", [by_ten[ten] for ten in sorted(by_ten)])
    assert (len(entries), ends) == (len(RUNS) * CALLS, [Outcome.SUCCEEDED] * len(RUNS))


def start(pod: StandIn, folder: Path, llm: ThreadedLLM) -> Running:
    """The runner of this Pod."""
    folder.mkdir()
    reports = folder / "reports"
    reports.mkdir()
    (reports / names.TOKEN_FILE).write_text(pod.token())
    (reports / "ca.crt").write_bytes(pod.authorities.read_bytes())
    metadata = pod.pod["metadata"]
    (container,) = pod.pod["spec"]["containers"]
    given = {each["name"]: each["value"] for each in container["env"] if each["name"] in SAME and "value" in each}
    assert given[names.ENV_PACED] == "true"
    me = {names.ENV_POD_UID: metadata["uid"], "CREWRUN_REPORT_DIR": str(reports)}
    tasks = (task(f"t{number}") for number in range(CALLS))
    return Runner(runner_python(), folder, llm.base_url).start(definition(*tasks), env={**given, **me})


#: What the operator tells its runners, and these are told too.
SAME = {
    names.ENV_RUN_NAME,
    names.ENV_RUN_NAMESPACE,
    names.ENV_RUN_UID,
    names.ENV_ATTEMPT,
    names.ENV_REPORT_URL,
    names.ENV_PACED,
}
