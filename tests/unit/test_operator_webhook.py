"""The webhook of a run's end: told once, never in the way of the run, and no attempt."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.reasons import Phase, Reason, WebhookOutcome
from crewrun_operator.observed import Plan, Refusal
from crewrun_operator.times import stamp
from tests.unit.builders import NOON, RUN_UID, PodBuilder, RecordBuilder, RunBuilder, Scene, as_it_was

URL = "https://example.test/hook"
HOOK = {"webhook": {"url": URL}}
NAME = "report-0f3ab-hook-1"
DELIVERED = '{"outcome":"Delivered","statusCode":204,"tries":2}'
REFUSED = '{"outcome":"Failed","statusCode":404,"tries":1,"message":"answered 404 Not Found"}'


def ended(outcome: str = "succeeded", **spec: Any) -> Scene:
    """A run at the moment of its end, before anything follows from that."""
    scene = Scene(
        RunBuilder().spec(**{"onSuccess": HOOK, "onFailure": HOOK, "retry": {"maxAttempts": 1}, **spec}).build()
    )
    scene.carry_out(scene.decide()).later(5)
    match outcome:
        case "succeeded":
            scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now))
        case "failed":
            scene.pod(PodBuilder().ended(30, RecordBuilder().failed().text(), at=scene.now))
        case "cancelled":
            scene.edit(cancel=True).pod(PodBuilder().ended(50, RecordBuilder().stopped().text(), at=scene.now))
    return scene.carry_out(scene.decide())


def telling(outcome: str = "succeeded", **spec: Any) -> Scene:
    """A run whose webhook's Job was made."""
    scene = ended(outcome, **spec)
    scene.settle()
    return scene


def told(scene: Scene) -> tuple[str, int | None, str] | None:
    webhook = scene.status.webhook
    return (str(webhook.outcome), webhook.status_code, webhook.message) if webhook else None


# begin


@pytest.mark.parametrize(
    ("outcome", "spec", "want_event"),
    [
        ("succeeded", {}, "RunSucceeded"),
        ("succeeded", {"onSuccess": {}}, None),
        ("succeeded", {"onSuccess": None}, None),
        ("failed", {}, "RunFailed"),
        ("failed", {"onFailure": {}}, None),
        ("cancelled", {}, None),
    ],
)
def test_a_run_tells_the_webhook_of_the_end_it_has_come_to(outcome: str, spec: Any, want_event: str | None) -> None:
    scene = ended(outcome, **spec)
    plan = scene.decide()
    assert (plan.start_hook and plan.start_hook.delivery.body["event"]) == want_event
    scene.settle()
    assert scene.made == ["report-0f3ab-1", NAME][: 2 if want_event else 1]
    assert told(scene) == (("Pending", None, "") if want_event else None)


def test_it_stands_in_the_status_before_the_job_is_made() -> None:
    plan = ended().decide()
    assert plan.status is not None and plan.status.webhook is not None and plan.start_hook is not None
    assert (plan.status.webhook.job, plan.status.webhook.outcome) == (NAME, WebhookOutcome.PENDING)
    assert plan.start_hook.job == NAME


def test_the_phase_and_the_conditions_stay_whatever_comes_of_it() -> None:
    scene = ended("failed")
    before = scene.status
    for step in (Scene.settle, lambda its: its.hook_pod(PodBuilder(0).ended(1, REFUSED)).settle()):
        step(scene)
        assert scene.status.model_copy(update={"webhook": None}) == before
    assert told(scene) is not None


def test_the_receiver_is_told_what_the_status_says() -> None:
    plan = ended().decide()
    assert plan.start_hook is not None
    delivery = plan.start_hook.delivery
    assert (delivery.url, delivery.headers, delivery.id) == (URL, [], f"{RUN_UID}/1")
    body = delivery.body
    assert body["usage"]["totalTokens"] == 100
    del body["usage"]
    assert body == {
        "event": "RunSucceeded",
        "run": {"name": "report", "namespace": "team-a", "uid": RUN_UID},
        "crew": "research",
        "phase": "Succeeded",
        "reason": "Completed",
        "message": "attempt 1 finished the crew",
        "startTime": stamp(NOON),
        "completionTime": stamp(NOON + timedelta(seconds=5)),
        "attempts": 1,
        "output": {"value": "Bees fly.", "format": "Text", "truncated": False},
    }


def test_a_failure_is_told_with_its_reason() -> None:
    plan = ended("failed").decide()
    assert plan.start_hook is not None
    body = plan.start_hook.delivery.body
    assert (body["phase"], body["reason"]) == ("Failed", "TaskFailed")
    assert "task facts raised" in body["message"]
    assert "output" not in body


def test_secrets_are_named_and_their_values_are_nowhere() -> None:
    key = {"name": "hook", "key": "token"}
    webhook = {"urlFrom": key, "headersFrom": [{"name": "Authorization", "secretKeyRef": key}]}
    plan = ended(onSuccess={"webhook": webhook}).decide()
    assert plan.start_hook is not None
    assert (plan.start_hook.delivery.url, plan.start_hook.delivery.headers) == (None, ["Authorization"])


# crashes


def test_a_crash_before_the_job_was_made_makes_it_after_a_look() -> None:
    scene = ended()
    scene.carry_out(scene.decide(), without_job=True).restart()
    plan = scene.decide()
    assert (plan.confirm_hook, plan.start_hook) == (NAME, None)
    plan = scene.carry_out(plan).decide()
    assert plan.start_hook is not None and scene.carry_out(plan).made == ["report-0f3ab-1", NAME]
    assert scene.settle().start_hook is None


def test_a_crash_after_the_job_was_made_finds_it() -> None:
    scene = telling()
    scene.store._states[RUN_UID].hooks.clear()
    plan = scene.decide()
    assert plan.confirm_hook == NAME
    plan = scene.carry_out(plan).decide()
    assert (plan.confirm_hook, plan.start_hook, plan.status) == (None, None, None)
    assert scene.made == ["report-0f3ab-1", NAME]


def test_a_job_that_somebody_deletes_is_made_again_after_a_look() -> None:
    scene = telling().hook_job_gone()
    assert scene.decide().confirm_hook == NAME
    scene.settle()
    assert scene.made == ["report-0f3ab-1", NAME, NAME]


def test_after_the_sources_changed_the_pod_is_like_that_of_the_newest_attempt() -> None:
    scene = ended().edit_crew()
    plan = scene.decide()
    assert plan.start_hook is not None
    assert (plan.start_hook.payload, plan.start_hook.like) == (None, "report-0f3ab-1")


@pytest.mark.parametrize("again", [False, True])
def test_a_job_that_the_api_server_refuses(again: bool) -> None:
    scene = ended()
    scene.carry_out(scene.decide(), without_job=True)
    scene.store.refuse_hook(RUN_UID, NAME, Refusal(Reason.JOB_REJECTED, "no quota", again))
    if not again:
        plan = scene.decide()
        assert [notice.reason for notice in plan.notices] == ["WebhookFailed"]
        scene.carry_out(plan)
        assert told(scene) == ("Failed", None, "the webhook is not told: no quota")
        return
    plan = scene.carry_out(scene.decide()).decide()
    assert plan.start_hook is not None
    scene.carry_out(plan, without_job=True)
    assert told(scene) == ("Pending", None, "no quota")


@pytest.mark.parametrize("hook", [None, {}, {"webhook": {}}], ids=["nothing", "no webhook", "what no CRD lets pass"])
def test_a_webhook_that_is_taken_out_before_its_job_was_made_is_not_told(hook: Any) -> None:
    scene = ended()
    scene.carry_out(scene.decide(), without_job=True)
    scene.edit(onSuccess=hook).settle()
    assert told(scene) == ("Failed", None, "the webhook was taken out of the run before it was told")
    assert NAME not in scene.made


# what comes of it


@pytest.mark.parametrize(
    ("code", "record", "want_told"),
    [
        (0, DELIVERED, ("Delivered", 204, "")),
        (1, REFUSED, ("Failed", 404, "the webhook was not told: answered 404 Not Found")),
        (1, '{"outcome":"Failed","message":"none"}', ("Failed", None, "the webhook was not told: none")),
        (1, '{"outcome":"Pending"}', ("Pending", None, "")),
        (1, '{"outcome":"Delivered","statusCode":"x"}', ("Pending", None, "")),
        (143, "", ("Pending", None, "")),
        (0, RecordBuilder().text(), ("Pending", None, "")),
    ],
)  # fmt: skip
def test_the_record_of_its_pod_decides(code: int, record: str, want_told: Any) -> None:
    scene = telling()
    scene.hook_pod(PodBuilder(0).ended(code, record, at=scene.now))
    plan = scene.decide()
    scene.carry_out(plan)
    assert told(scene) == want_told
    assert [notice.reason for notice in plan.notices] == ["WebhookFailed"] * (want_told[0] == "Failed")
    scene.settle()
    assert scene.decide().notices == (), "an event is posted once"
    assert scene.made == ["report-0f3ab-1", NAME]


def test_a_pod_that_is_gone_has_left_its_record() -> None:
    scene = telling()
    pod = PodBuilder(0).ended(0, DELIVERED, at=scene.now)
    scene.hook_pod(pod).pod_gone(pod).settle()
    assert scene.status.webhook is not None
    assert (scene.status.webhook.tries, scene.status.webhook.completion_time) == (2, stamp(scene.now))


def test_the_record_of_an_end_before_is_not_that_of_this_one() -> None:
    scene = telling()
    other = PodBuilder(0).ended(0, DELIVERED).metadata(name="report-0f3ab-hook-10-x0001")
    scene.pod(other).settle()
    assert told(scene) == ("Pending", None, "")


@pytest.mark.parametrize(
    ("type_", "reason", "want_told"),
    [
        ("Complete", "", ("Delivered", "its Pod is gone with its record")),
        ("Failed", "BackoffLimitExceeded", ("Failed", "the webhook was not told: Job report-0f3ab-hook-1 failed "
         "(BackoffLimitExceeded): see `kubectl logs job/report-0f3ab-hook-1 -n team-a`")),
    ],
)  # fmt: skip
def test_without_a_record_its_job_decides_after_a_look(type_: str, reason: str, want_told: tuple[str, str]) -> None:
    scene = telling().hook_job_ends(type_, reason)
    plan = scene.decide()
    assert (plan.confirm_hook, plan.status) == (NAME, None), "a Pod with a record may be on the way"
    scene.settle()
    webhook = scene.status.webhook
    assert webhook is not None and (str(webhook.outcome), webhook.message) == want_told


def test_a_pod_that_never_started_says_why() -> None:
    scene = telling()
    pod = PodBuilder(0).waiting("CreateContainerConfigError", 'secret "hook" not found')
    scene.hook_pod(pod).pod_gone(pod).hook_job_ends("Failed", "DeadlineExceeded").settle()
    webhook = scene.status.webhook
    want = '(DeadlineExceeded): Pod report-0f3ab-hook-1-x0001 waits: secret "hook" not found'
    assert webhook is not None and want in webhook.message


def test_a_pod_on_a_lost_node_is_waited_for_a_minute_past_the_deadline() -> None:
    scene = telling(ttlSecondsAfterFinished=0)
    scene.hook_pod(PodBuilder(0).running()).hook_job_ends("FailureTarget", "DeadlineExceeded")
    assert scene.settle().again_at is None
    scene.hook_pod(PodBuilder(0).running().metadata(deletionTimestamp=stamp(scene.now)))
    assert scene.settle().again_at == scene.now + timedelta(seconds=60)
    scene.later(60).settle()
    assert told(scene) is not None and scene.status.webhook is not None
    assert "(DeadlineExceeded)" in scene.status.webhook.message
    assert scene.deleted == ["report"]


# what it must not touch


def test_the_time_to_live_waits_until_the_webhook_is_told() -> None:
    scene = telling(ttlSecondsAfterFinished=0).later(300)
    assert (scene.settle().delete_run, scene.deleted) == (False, [])
    scene.hook_pod(PodBuilder(0).ended(1, REFUSED, at=scene.now))
    scene.settle()
    assert scene.decide().delete_run


def test_a_run_without_a_webhook_plans_nothing_more() -> None:
    scene = ended(onSuccess=None, onFailure=None)
    assert scene.decide() == Plan()
    assert scene.status.webhook is None


def test_its_pod_is_no_stray_and_no_attempt() -> None:
    scene = telling()
    scene.hook_pod(PodBuilder(0).running(at=scene.now)).later(3600).settle()
    assert (scene.deleted, scene.status.attempt_count) == ([], 1)
    assert scene.observe().jobs.keys() == {1}
    assert [pod.id.attempt for pod in scene.observe().pods] == [1]


def test_an_edit_is_seen_while_it_is_told() -> None:
    scene = telling()
    before = scene.status
    scene.edit(ttlSecondsAfterFinished=60).settle()
    assert scene.status.observed_generation == 2
    assert as_it_was(scene.status) == as_it_was(before)


def test_a_rerun_forgets_it_and_tells_of_the_next_end() -> None:
    scene = telling("failed")
    scene.hook_pod(PodBuilder(0).running(at=scene.now))
    scene.later(60).edit(rerun="1").settle()
    assert (scene.status.phase, scene.status.webhook) == (Phase.STARTING, None)
    assert (scene.made[-1], scene.deleted) == ("report-0f3ab-2", []), "the old one goes on telling of the old end"
    scene.pod(PodBuilder(2).ended(0, RecordBuilder(2).text(), at=scene.now)).settle()
    assert scene.status.webhook is not None
    assert scene.made[-1] == scene.status.webhook.job == "report-0f3ab-hook-2"
    assert scene.store.observe(scene.key).hooks.keys() == {NAME, "report-0f3ab-hook-2"}  # type: ignore[union-attr]
    scene.hook_pod(PodBuilder(0, 2).ended(0, DELIVERED, at=scene.now)).settle()
    assert told(scene) == ("Delivered", 204, "")


def test_a_refusal_before_a_rerun_is_not_that_of_the_next_end() -> None:
    scene = ended("failed")
    scene.carry_out(scene.decide(), without_job=True)
    scene.store.refuse_hook(RUN_UID, NAME, Refusal(Reason.JOB_REJECTED, "no", again=False))
    scene.settle()
    scene.edit(rerun="1").settle()
    scene.pod(PodBuilder(2).ended(0, RecordBuilder(2).text(), at=scene.now)).settle()
    assert told(scene) == ("Pending", None, "")


def test_a_ghost_is_swept_and_looked_up() -> None:
    scene = telling()
    assert scene.store.sweep("jobs", None, set(), 10_000)
    assert scene.decide().confirm_hook == NAME
