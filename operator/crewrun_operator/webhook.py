"""Policy: a run that has ended as its webhook wants to hear of tells it, once. Purely computational.

What is to be done stands in the status before the Job is made, as with attempts; and as there, absence is never
believed from the store alone. Nothing that comes of it changes the run's phase or conditions.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from crewrun_api import names
from crewrun_api.outcome import cut
from crewrun_api.reasons import ConditionType, Phase, WebhookOutcome
from crewrun_api.run import Hook, RunStatus, Webhook, WebhookStatus
from crewrun_api.webhook import (
    Delivery,
    RunIdentity,
    WebhookBody,
    WebhookEvent,
    WebhookOutput,
    WebhookRecord,
    parse_webhook_record,
)
from crewrun_operator.bounded import in_hook
from crewrun_operator.definition import Problem
from crewrun_operator.diagnose import waiting
from crewrun_operator.observed import Notice, Plan, SeenHook, StartHook
from crewrun_operator.state import State
from crewrun_operator.status import condition
from crewrun_operator.times import earliest, stamp
from crewrun_operator.ttl import stays
from crewrun_operator.views import JobView, PodView

_EVENTS = {
    Phase.SUCCEEDED: ("onSuccess", WebhookEvent.RUN_SUCCEEDED),
    Phase.FAILED: ("onFailure", WebhookEvent.RUN_FAILED),
}
_MESSAGE_LIMIT_BYTES = 400
#: A Pod that was to end so long ago, and is still there, stands on a node that does not answer.
_LOST = timedelta(seconds=60)


def tell(state: State) -> Plan | None:
    """Begin to tell the webhook, or see what has become of it; None when nobody waits to be told."""
    if not state.ended:
        return None
    told = state.status.webhook
    if told is None:
        return _begin(state)
    return _follow(state, told) if told.outcome is WebhookOutcome.PENDING else None


def wanted(state: State) -> Webhook | None:
    """The webhook of this end, as the run names it now."""
    field, _ = _EVENTS.get(state.status.phase or Phase.PENDING, ("", None))
    try:
        return Hook.model_validate(state.observed.run["spec"].get(field) or {}).webhook
    except ValidationError:  # an older CRD let it pass
        return None


def _forbidden(state: State) -> list[Problem]:
    """What the policy has against it now: it may be edited in when the run is accepted long since."""
    field, _ = _EVENTS[state.status.phase or Phase.FAILED]
    return in_hook(state.observed.policy, state.observed.run["spec"].get(field), f"spec.{field}")


def delivery(state: State, webhook: Webhook) -> Delivery:
    """What the Pod is given: the same each time, so that a receiver can tell a repetition."""
    status, metadata = state.status, state.observed.run["metadata"]
    end = condition(status, ConditionType.SUCCEEDED)
    phase = status.phase or Phase.FAILED
    output = status.output
    body = WebhookBody(
        event=_EVENTS[phase][1],
        run=RunIdentity(name=metadata["name"], namespace=metadata["namespace"], uid=state.uid),
        crew=status.crew.name if status.crew else None,
        phase=phase,
        reason=end.reason if end else "",
        message=end.message if end else "",
        start_time=status.start_time,
        completion_time=status.completion_time,
        attempts=status.attempt_count,
        usage=status.usage,
        output=WebhookOutput(
            value=output.value, format=output.format, truncated=output.truncated, config_map=output.config_map
        )
        if output
        else None,
    )
    return Delivery(
        url=webhook.url,
        headers=[header.name for header in webhook.headers_from],
        id=f"{state.uid}/{status.attempt_count}",
        body=body.model_dump(mode="json", by_alias=True, exclude_none=True),
    )


def _begin(state: State) -> Plan | None:
    if wanted(state) is None:
        return None
    name = names.webhook_job_name(state.observed.run["metadata"]["name"], state.uid, state.status.attempt_count)
    return _make(state, WebhookStatus(job=name, outcome=WebhookOutcome.PENDING))


def _make(state: State, told: WebhookStatus) -> Plan:
    """Make the Job, in a Pod like those of the attempts: as the sources say, while they still say the same, else
    as the newest attempt's Job does."""
    webhook, payload = wanted(state), state.unchanged_payload()
    if webhook is None:
        return _over(state, told, "was taken out of the run before it was told")
    if forbidden := _forbidden(state):
        return _over(state, told, f"is not told: {forbidden[0]}")
    like = state.status.attempts[-1].job if state.status.attempts else None
    if payload is None and like is None:
        return _over(state, told, "is not told: the crew or its profile changed, and no attempt says how Pods look")
    start = StartHook(told.job, webhook, delivery(state, webhook), payload, like)
    return Plan(status=_with(state.status, told), start_hook=start)


def _follow(state: State, told: WebhookStatus) -> Plan:
    seen = state.observed.hooks.get(told.job, SeenHook())
    pods = [pod for pod in state.observed.hook_pods if pod.id.name.startswith(f"{told.job}-")]
    pods.sort(key=lambda pod: pod.id.version, reverse=True)
    for pod in pods:
        if pod.terminated is not None and (record := parse_webhook_record(pod.terminated.message)):
            return _recorded(state, told, record, pod.terminated.finished_at)
    job = seen.job
    if job is None:
        return _without_job(state, told, seen)
    alive = [_lost_at(pod) for pod in pods if not pod.over]
    lost = all(due is not None and due <= state.now for due in alive)
    if not (job.finished or (job.out_of_time and lost)):
        plan = stays(state)
        due = (at for at in alive if at is not None and at > state.now)
        return replace(plan, again_at=earliest(plan.again_at, *due))
    if seen.confirmed != job.id.version:
        return Plan(confirm_hook=told.job)
    return _by_job(state, told, job, pods)


def _without_job(state: State, told: WebhookStatus, seen: SeenHook) -> Plan:
    """It is recorded that the webhook is to be told, and no Job is known."""
    if seen.refusal is not None and not seen.refusal.again:
        return _over(state, told, f"is not told: {seen.refusal.message}")
    if seen.confirmed != 0:
        return Plan(confirm_hook=told.job)
    message = seen.refusal.message if seen.refusal else told.message
    return _make(state, told.model_copy(update={"message": cut(message, _MESSAGE_LIMIT_BYTES)}))


def _recorded(state: State, told: WebhookStatus, record: WebhookRecord, at: datetime | None) -> Plan:
    told = told.model_copy(update={"status_code": record.status_code, "tries": record.tries})
    if record.outcome is WebhookOutcome.DELIVERED:
        return _closed(state, told, record.outcome, record.message, at)
    return _over(state, told, f"was not told: {record.message}", at)


def _by_job(state: State, told: WebhookStatus, job: JobView, pods: list[PodView]) -> Plan:
    """No Pod has left a record: its Job alone knows, and the newest Pod why."""
    if job.succeeded:
        return _closed(state, told, WebhookOutcome.DELIVERED, "its Pod is gone with its record", None)
    holdup = waiting(pods[0]) if pods else None
    why = holdup.message if holdup else f"see `kubectl logs job/{told.job} -n {job.id.namespace}`"
    return _over(state, told, f"was not told: Job {told.job} failed ({job.finished or 'DeadlineExceeded'}): {why}")


def _over(state: State, told: WebhookStatus, why: str, at: datetime | None = None) -> Plan:
    message = f"the webhook {why}"
    plan = _closed(state, told, WebhookOutcome.FAILED, message, at)
    return replace(plan, notices=(Notice("Warning", "WebhookFailed", message),))


def _closed(state: State, told: WebhookStatus, outcome: WebhookOutcome, message: str, at: datetime | None) -> Plan:
    update = {
        "outcome": outcome,
        "message": cut(message, _MESSAGE_LIMIT_BYTES),
        "completion_time": stamp(min(at or state.now, state.now)),
    }
    return Plan(status=_with(state.status, told.model_copy(update=update)))


def _lost_at(pod: PodView) -> datetime | None:
    """When a Pod that was told to end is given up; None when it was not told so."""
    return pod.lost_since + _LOST if pod.deleting and pod.lost_since else None


def _with(status: RunStatus, told: WebhookStatus) -> RunStatus:
    return status.model_copy(update={"webhook": told})
