"""What holds of every decision, whatever was observed, and of every history, whatever happened in it."""

from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crewrun_api import names
from crewrun_api.reasons import ConditionType, Outcome, Phase, Reason, WebhookOutcome
from crewrun_api.run import AttemptStatus, CrewStatus, RunStatus, Webhook, WebhookStatus
from crewrun_api.webhook import Delivery, WebhookRecord
from crewrun_operator.decide import decide
from crewrun_operator.hook_job import build_hook_job
from crewrun_operator.observed import Observed, Plan, Refusal, Reported, SeenHook, StartHook
from crewrun_operator.state import State
from crewrun_operator.status import condition, settle
from crewrun_operator.store import Store
from crewrun_operator.times import parse, stamp
from crewrun_operator.tracked import tracked_by
from crewrun_operator.views import config_map_view, job_view, pod_view
from crewrun_operator.webhook import wanted
from tests.unit.builders import (
    DEFAULTS,
    NOON,
    RUN_UID,
    CrewBuilder,
    JobBuilder,
    PodBuilder,
    ProfileBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    Scene,
    a_payload,
    as_it_was,
    classic_files,
)

PAYLOAD = a_payload()
TEXTS = ["", "{}", "garbage", RecordBuilder().text(), RecordBuilder().stopped().text()] + [
    RecordBuilder(number).failed(reason).text()
    for number in (1, 2)
    for reason in (Reason.TASK_FAILED, Reason.LLM_AUTHENTICATION, Reason.EVICTED, Reason.COMPLETED)
]
HOOK_JOB = names.webhook_job_name("report", RUN_UID, 1)
HOOKS: list[Any] = [None, {}, {"webhook": {"url": "https://example.test"}}, {"webhook": {}}]
moments = st.integers(-7200, 7200).map(lambda seconds: stamp(NOON + timedelta(seconds=seconds)))
maybe = st.none()


@st.composite
def pods(draw: st.DrawFn, attempt: int | None = None) -> PodBuilder:
    pod = PodBuilder(attempt or draw(st.integers(1, 3)), draw(st.integers(1, 2))).at(draw(st.integers(1, 9)))
    match draw(st.sampled_from(["new", "waiting", "unschedulable", "running", "ended", "failed"])):
        case "waiting":
            pod.waiting(draw(st.sampled_from(["ImagePullBackOff", "CreateContainerConfigError", "X", ""])))
        case "unschedulable":
            pod.unschedulable()
        case "running":
            pod.running()
        case "ended":
            pod.ended(draw(st.sampled_from([0, 1, 20, 50, 137, 255])), draw(st.sampled_from(TEXTS)))
        case "failed":
            pod.phase("Failed", draw(st.sampled_from(["", "Evicted"])))
    if draw(st.booleans()):
        pod.deleting()
    if draw(st.booleans()):
        pod.disrupted(draw(st.sampled_from(["EvictionByEvictionAPI", "New"])))
    return pod


@st.composite
def reports(draw: st.DrawFn) -> Reported:
    """What a runner told lately, or a while ago."""
    attempt = draw(st.integers(1, 3))
    report = ReportBuilder(attempt, draw(st.integers(1, 9)), draw(st.integers(1, 2)))
    if draw(st.booleans()):
        report.checkpoint()
    match draw(st.sampled_from(["goes on", "succeeded", "failed", "stopped", "suspended"])):
        case "succeeded":
            report.outcome(RecordBuilder(attempt))
        case "failed":
            report.outcome(RecordBuilder(attempt).failed(draw(st.sampled_from(Reason))))
        case "stopped":
            report.outcome(RecordBuilder(attempt).stopped())
        case "suspended":
            report.outcome(RecordBuilder(attempt).stopped(Reason.SUSPENDED))
    received = NOON - timedelta(seconds=draw(st.sampled_from([0, 5, 3600])))
    return Reported(report.build(), received, kept=draw(st.integers(0, 9)))


@st.composite
def jobs(draw: st.DrawFn, attempt: int) -> JobBuilder:
    job = JobBuilder(None, attempt, PAYLOAD).at(draw(st.integers(1, 3)))
    if draw(st.booleans()):
        job.condition(
            draw(st.sampled_from(["Failed", "Complete", "FailureTarget"])),
            draw(st.sampled_from(["", "DeadlineExceeded", "BackoffLimitExceeded"])),
        )
    if draw(st.booleans()):
        job.deleting()
    return job


@st.composite
def statuses(draw: st.DrawFn) -> RunStatus:
    count = draw(st.integers(0, 3))
    attempts = [
        AttemptStatus(
            number=number,
            job=f"job-{number}",
            pod_uid=draw(st.none() | st.just(PodBuilder(number).build()["metadata"]["uid"])),
            start_time=draw(maybe | moments),
            outcome=Outcome.FAILED if number < count else draw(st.none() | st.sampled_from(Outcome)),
        )
        for number in range(1, count + 1)
    ]
    status = RunStatus(
        attempts=attempts,
        attempt_count=count,
        crew=CrewStatus(name="research", digest=draw(st.sampled_from([PAYLOAD.digest, "old"]))) if count else None,
        disruptions=draw(st.integers(0, count)),
        start_time=draw(maybe | moments),
        next_attempt_time=draw(maybe | moments),
    )
    if phase := draw(st.none() | st.sampled_from(Phase)):
        status = settle(status, phase, draw(st.sampled_from(["Running", "Starting", "X"])), "m", NOON, 1)
        if phase.ended and draw(st.booleans()):
            told = WebhookStatus(job=HOOK_JOB, outcome=draw(st.sampled_from(WebhookOutcome)))
            status = status.model_copy(update={"webhook": told})
    return status


@st.composite
def hooks(draw: st.DrawFn) -> dict[str, SeenHook]:
    """What is known of the webhook's Job, and of that of an end before."""
    scene = Scene()
    hook = Webhook(url="https://example.test")
    found: dict[str, SeenHook] = {}
    for name in draw(st.sets(st.sampled_from([HOOK_JOB, "report-0f3ab-hook-0"]))):
        start = StartHook(name, hook, Delivery(id="1", body={}), PAYLOAD)
        job = {**build_hook_job(scene.run, start, PAYLOAD), "status": {}}
        job["metadata"] |= {"uid": f"uid-of-{name}", "resourceVersion": str(draw(st.integers(1, 3)))}
        if end := draw(st.sampled_from(["", "Failed", "Complete", "FailureTarget"])):
            job["status"] = {"conditions": [{"type": end, "status": "True", "reason": "DeadlineExceeded"}]}
        refusal = Refusal(Reason.JOB_REJECTED, "no", draw(st.booleans()))
        found[name] = SeenHook(
            draw(st.sampled_from([job_view(job), None])),
            draw(st.none() | st.integers(0, 3)),
            draw(st.sampled_from([None, refusal])),
        )
    return found


@st.composite
def hook_pods(draw: st.DrawFn) -> PodBuilder:
    pod = draw(pods(1))
    pod.metadata(name=f"{draw(st.sampled_from([HOOK_JOB, 'report-0f3ab-hook-0']))}-x0001")
    pod._document["metadata"]["labels"][names.LABEL_ATTEMPT] = "0"
    if draw(st.booleans()):
        outcome = draw(st.sampled_from(WebhookOutcome))
        pod.ended(0, WebhookRecord(outcome=outcome, message="m").model_dump_json(by_alias=True))
    return pod


SOURCES = [
    CrewBuilder().without("definition").spec(configMap={"name": "files"}),
    CrewBuilder().without("definition").spec(entrypoint={"target": "a:B", "image": "i"}),
]
INPUTS_FROM: list[Any] = [
    [{"configMapRef": {"name": "more"}}],
    [{"secretKeyRef": {"name": "s", "key": "k"}, "input": "topic"}],
    "more",
    [None, {"configMapRef": 7}],
]
FILES = [
    None,
    config_map_view({"data": classic_files()}),
    config_map_view({"data": {"agents.yaml": "a: [", "topic": "x"}}),
]

TRACKED = {"labels": {"kustomize.toolkit.fluxcd.io/name": "crews"}}


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    run = RunBuilder().status(draw(statuses()))
    run.spec(suspend=draw(st.booleans()), rerun=draw(st.sampled_from([None, None, "again"])))
    run.spec(**{each: draw(st.sampled_from(HOOKS)) for each in ("onSuccess", "onFailure")})
    run.spec(cancel=draw(st.booleans()), **draw(st.fixed_dictionaries({}, optional={
        "timeoutSeconds": st.integers(1, 7200),
        "ttlSecondsAfterFinished": st.integers(0, 7200),
        "startDeadlineSeconds": st.integers(1, 7200),
        "inputs": st.just({}),
        "profile": st.sampled_from(["production", "gone"]),
        "inputsFrom": st.sampled_from(INPUTS_FROM),
    })))  # fmt: skip
    if draw(st.integers(0, 9)) == 0:
        run.deleting()
    run.metadata(**draw(st.sampled_from([{}, TRACKED])))
    crew = draw(st.sampled_from([None, CrewBuilder(), CrewBuilder().definition(agents=[[]]), *SOURCES]))
    seen = {n: job_view(draw(jobs(n)).build()) for n in draw(st.sets(st.integers(1, 3), max_size=2))}
    found = [pod_view(pod.build()) for pod in draw(st.lists(pods(), max_size=3))]
    views = {view.id.uid: view for view in found if view}
    tellers = [pod_view(pod.build()) for pod in draw(st.lists(hook_pods(), max_size=2))]
    return Observed(
        run=run.build(),
        crew=crew and crew.build(),
        profiles={"production": ProfileBuilder().build()} if draw(st.booleans()) else {},
        sources_confirmed=draw(st.booleans()),
        config_maps=draw(st.dictionaries(st.sampled_from(["files", "more"]), st.sampled_from(FILES))),
        config_maps_read_at=draw(maybe | st.sampled_from([NOON, NOON - timedelta(minutes=1)])),
        jobs={number: job for number, job in seen.items() if job},
        pods=tuple(view.as_gone() if draw(st.booleans()) else view for view in views.values()),
        confirmed=draw(st.dictionaries(st.integers(1, 3), st.integers(0, 3), max_size=2)),
        refusals=draw(
            st.dictionaries(
                st.integers(1, 3),
                st.builds(Refusal, st.just(Reason.JOB_REJECTED), st.just("no"), st.booleans()),
                max_size=1,
            )
        ),
        reports={each.report.snapshot.pod_uid: each for each in draw(st.lists(reports(), max_size=2))},
        unkept=draw(st.sampled_from([frozenset(), frozenset({"report-0f3ab-output"})])),
        written_at=draw(st.none() | st.sampled_from([NOON, NOON - timedelta(minutes=1)])),
        defaults=DEFAULTS,
        hooks=draw(hooks()),
        hook_pods=tuple(view.as_gone() if draw(st.booleans()) else view for view in tellers if view),
    )


def without_webhook(status: RunStatus) -> RunStatus:
    return as_it_was(status).model_copy(update={"webhook": None})


def open_attempts(status: RunStatus) -> list[int]:
    return [attempt.number for attempt in status.attempts if attempt.outcome is None]


def after(observed: Observed, plan: Plan) -> Observed:
    """The same with the plan's status written, as the store has it."""
    store = Store(DEFAULTS)
    store.put_run(RunBuilder().status(plan.status or RunStatus.model_validate(observed.run["status"])).build())
    run = {**observed.run, "status": store.runs["team-a", "report"]["status"]}
    return Observed(**{**{name: getattr(observed, name) for name in Observed.__slots__}, "run": run})


@settings(max_examples=200, deadline=None)
@given(observations())
def test_every_observation_has_a_plan_that_breaks_no_promise(observed: Observed) -> None:
    before = RunStatus.model_validate(observed.run["status"])
    plan = decide(observed, NOON)
    status = plan.status or before

    if before.phase is not None and before.phase.ended:
        again = observed.run["spec"]["rerun"] not in (None, before.rerun)
        assert again or plan.start is None, "an ended run stays as it is"
        assert again or without_webhook(status) == without_webhook(before), "a webhook changes nothing else"
        if plan.start_hook is not None:
            assert before.phase is not Phase.CANCELLED
            assert status.webhook is not None, "it stands in the status before its Job is made"
            assert (status.webhook.job, status.webhook.outcome) == (plan.start_hook.job, WebhookOutcome.PENDING)
        pending = status.webhook is not None and status.webhook.outcome is WebhookOutcome.PENDING
        assert not (plan.delete_run and pending), "the time to live waits"
        assert not (plan.delete_run and tracked_by(observed.run)), "it would be made, and paid, again"
        return
    assert (plan.start_hook, plan.confirm_hook) == (None, None), "only an ended run has something to tell"
    assert len(open_attempts(status)) <= 1, "one attempt at a time"
    assert status.attempt_count - before.attempt_count in (0, 1)
    if "deletionTimestamp" in observed.run["metadata"]:
        assert plan == Plan()
        return
    if plan.start is not None:
        assert plan.start.payload or plan.start.like
        assert open_attempts(status) == [plan.start.number], "an attempt is recorded before its Job is made"
        alive = [pod for pod in observed.pods if not pod.over and not pod.deleting]
        jobs_alive = {number for number, job in observed.jobs.items() if not job.deleting}
        assert not jobs_alive & {pod.id.attempt for pod in alive}, "nothing else runs"
    if plan.delete_run:
        raise AssertionError("only an ended run is deleted")
    if status.phase is None or not status.phase.ended:
        waits_for = (
            plan.start
            or plan.stop
            or plan.confirm
            or plan.confirm_sources
            or plan.again_at
            or open_attempts(status)
            or plan.save
            or status.phase in (Phase.PENDING, Phase.SUSPENDED)
        )
        assert waits_for, f"nothing would ever happen to this run again: {plan}"
    if plan.again_at is not None and not (plan.status and plan.status.phase is Phase.BACKING_OFF):
        assert plan.again_at > NOON, "a time that has passed would be decided for again and again"


@settings(max_examples=150, deadline=None)
@given(observations())
def test_a_plan_that_was_carried_out_is_not_planned_again(observed: Observed) -> None:
    plan = decide(observed, NOON)
    told = after(observed, plan)
    if plan.status is not None and plan.status.next_attempt_time is not None:
        assume(parse(plan.status.next_attempt_time) > NOON)  # else the next attempt is due already
        assume(not observed.run["spec"]["suspend"])  # its end comes first, and only then it is suspended
    if plan.status is not None and plan.status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        assume(plan.status.webhook or not wanted(State(told, NOON)))  # whoever waits for the end is told then
    if plan.status is not None and plan.status.phase is not None and plan.status.phase.ended:
        assume(condition(plan.status, ConditionType.TTL_IGNORED) or not tracked_by(observed.run))  # that is told then
    if plan.status is not None and plan.status.phase is Phase.PENDING:
        before = RunStatus.model_validate(observed.run["status"])
        assume(not open_attempts(before))  # it was suspended and is not any more: the next attempt follows at once
    if plan.start is not None:  # of an attempt that is just recorded nothing can be known yet
        known = {*observed.jobs, *observed.refusals, *observed.confirmed, *(pod.id.attempt for pod in observed.pods)}
        assume(plan.start.number not in known)
    again = decide(told, NOON)
    assert again.status in (None, RunStatus.model_validate(told.run["status"]))
    assert again.start is None or plan.start is None, "its Job is made once"
    assert again.save is None or plan.save is not None, "and what is kept is kept once"
    if plan.start_hook is not None:  # what is known of it already is of another life
        assume(plan.start_hook.job not in observed.hooks)
    assert again.start_hook is None, "the Job of its webhook too"


EVENTS = (
    ["decide"] * 6
    + ["fails"] * 3
    + ["pass"] * 2
    + ["suspend", "suspend", "resume", "resume", "reports", "reports"]
    + ["pass long", "cancel", "crew", "restart", "pod", "pod gone", "job gone", "job ends"]
)


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.fixed_dictionaries(
        {"maxAttempts": st.integers(1, 3), "maxDisruptions": st.integers(0, 2)},
        optional={"backoff": st.just({"initialSeconds": 0})},
    ),
)
def test_no_history_starts_too_much_or_leaves_an_end(data: st.DataObject, retry: dict[str, Any]) -> None:
    scene = Scene(RunBuilder().spec(retry=retry, timeoutSeconds=3600).build())
    for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=10, max_size=30)):
        before = scene.status
        _happens(scene, event, data)
        status = scene.status
        assert len(open_attempts(status)) <= 1
        assert status.attempt_count >= before.attempt_count
        assert status.counted_attempts <= retry["maxAttempts"]
        assert status.disruptions <= retry["maxDisruptions"] + 1
        if before.phase is not None and before.phase.ended:
            assert as_it_was(status) == as_it_was(before)
        assert len(set(scene.made)) <= status.attempt_count, "no Job without its attempt in the status"


def _happens(scene: Scene, event: str, data: st.DataObject) -> None:
    status, jobs_seen = scene.status, scene.observe().jobs
    attempt = status.attempt_count
    match event:
        case "decide":
            plan = scene.decide()
            scene.carry_out(plan, without_job=data.draw(st.integers(0, 4)) == 4)
        case "pass":
            scene.later(data.draw(st.integers(1, 20)))
        case "pass long":
            scene.later(data.draw(st.integers(20, 2000)))
        case "cancel":
            scene.edit(cancel=True)
        case "suspend":
            scene.edit(suspend=True)
        case "resume":
            scene.edit(suspend=False)
        case "crew":
            scene.edit_crew()
        case "restart":
            scene.restart()
        case "fails" if attempt in jobs_seen:
            scene.pod(PodBuilder(attempt).ended(30, RecordBuilder(attempt).failed().text(), at=scene.now))
            scene.carry_out(scene.decide()).later(2)
        case "reports" if attempt in jobs_seen:
            report = data.draw(reports()).report
            scene.store.put_report(report.model_copy(update={"outcome": None}), scene.now)
        case "pod" if attempt in jobs_seen:
            scene.pod(data.draw(pods(attempt)))
        case "pod gone" if attempt in jobs_seen:
            scene.pod_gone(data.draw(pods(attempt)))
        case "job gone" if attempt in jobs_seen:
            scene.job_gone(attempt)
        case "job ends" if attempt in jobs_seen:
            scene.job_ends(attempt)
