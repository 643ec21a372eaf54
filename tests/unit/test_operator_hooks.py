"""The Job of a webhook against an API server in memory: crashes at every write, adoption, refusals, what it is like."""

import pytest

from crewrun_api.reasons import WebhookOutcome
from crewrun_operator.api import ApiError
from tests.unit.builders import PodBuilder, RecordBuilder, RunBuilder
from tests.unit.fake_api import Document, FakeApi, Lost
from tests.unit.test_operator_apply import JOB, JOBS, MAKE_JOB, STATUS, Operator, cluster, jobs_on, status_on, tell

HOOK = {"webhook": {"url": "https://example.test", "headersFrom": []}}
NAME = "report-0f3ab-hook-1"
HOOK_JOB = f"{JOBS}/{NAME}"
POD = f"/api/v1/namespaces/team-a/pods/{NAME}-x0001"
RECORD = '{"outcome":"Delivered","statusCode":200,"tries":1}'


async def at_its_end(api: FakeApi) -> Operator:
    """An operator that is about to see the end of the run; three writes are made by then."""
    operator = Operator(api)
    await operator.settle()
    operator.store.put_pod(PodBuilder().ended(0, RecordBuilder().text()).build())
    await operator.step()
    assert len(api.writes) == 3
    return operator


def hooked(**spec: object) -> FakeApi:
    return cluster(run=RunBuilder().spec(**{"onSuccess": HOOK, **spec}))


def pod() -> Document:
    return PodBuilder(0).ended(0, RECORD).metadata(name=f"{NAME}-x0001").build()


def test_it_costs_three_writes_more() -> None:
    async def story() -> None:
        api = hooked()
        operator = await at_its_end(api)
        await operator.settle()
        assert api.writes[3:] == [STATUS, MAKE_JOB]
        assert jobs_on(api) == [JOB, HOOK_JOB]
        operator.store.put_pod(pod())
        await operator.settle()
        assert api.writes[5:] == [STATUS]
        webhook = status_on(api).webhook
        assert webhook is not None
        assert (webhook.outcome, webhook.status_code, webhook.job) == (WebhookOutcome.DELIVERED, 200, NAME)

    tell(story)


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("write", [4, 5, 6], ids=["at the status", "at the Job", "at the end"])
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "restarts"])
def test_a_crash_at_any_write_leaves_one_job_and_one_end(write: int, lost: str, restarts: bool) -> None:
    async def story() -> None:
        api = hooked()
        operator = await at_its_end(api)
        (api.lose_request if lost == "request" else api.lose_answer)(write)

        async def go_on() -> None:
            nonlocal operator
            for _ in range(4):
                try:
                    await operator.settle()
                except Lost:
                    operator = Operator(api) if restarts else operator
                except ApiError as error:
                    assert error.code == 409, "the status is newer than the store: a watch brings it"
                    operator.list()

        await go_on()
        assert jobs_on(api) == [JOB, HOOK_JOB]
        api.put(POD, pod())
        operator.list()
        await go_on()
        webhook = status_on(api).webhook
        assert webhook is not None and webhook.outcome is WebhookOutcome.DELIVERED
        assert jobs_on(api) == [JOB, HOOK_JOB]
        assert status_on(api).attempt_count == 1

    tell(story)


def test_a_job_of_that_name_that_is_not_ours_is_left_alone() -> None:
    async def story() -> None:
        api = hooked()
        operator = await at_its_end(api)
        other = api.objects[JOB]
        api.put(HOOK_JOB, {**other, "metadata": {"name": NAME, "namespace": "team-a", "uid": "theirs"}})
        await operator.settle()
        webhook = status_on(api).webhook
        assert webhook is not None and webhook.outcome is WebhookOutcome.FAILED
        assert "exists and does not belong to this CrewRun" in webhook.message

    tell(story)


@pytest.mark.parametrize(("code", "want_outcome"), [(422, WebhookOutcome.FAILED), (403, WebhookOutcome.PENDING)])
def test_a_refusal_is_told_and_one_that_may_pass_is_tried_again(code: int, want_outcome: WebhookOutcome) -> None:
    async def story() -> None:
        api = hooked()
        operator = await at_its_end(api)
        api.refuse[JOBS] = ApiError(code, "No", "no such thing")
        for _ in range(3):
            try:
                await operator.settle()
            except ApiError as error:
                assert error.code == code == 403, "the controller tries again, ever later"
        webhook = status_on(api).webhook
        assert webhook is not None
        assert (webhook.outcome, "no such thing" in webhook.message) == (want_outcome, True)
        api.refuse.clear()
        await operator.settle()
        assert jobs_on(api) == [JOB, HOOK_JOB][: 2 if code == 403 else 1]

    tell(story)


@pytest.mark.parametrize("left", [True, False], ids=["the attempt's Job is left", "it is gone too"])
def test_after_the_crew_is_gone_the_newest_attempt_says_how_the_pod_looks(left: bool) -> None:
    async def story() -> None:
        api = hooked(pod={"labels": {"team": "a"}})
        await at_its_end(api)
        del api.objects["/apis/crewrun.dev/v1alpha1/namespaces/team-a/crews/research"]
        if not left:
            api.vanish(JOB)
        operator = Operator(api)
        await operator.settle()
        webhook = status_on(api).webhook
        assert webhook is not None
        if left:
            labels = api.objects[HOOK_JOB]["spec"]["template"]["metadata"]["labels"]
            assert (webhook.outcome, labels["team"]) == (WebhookOutcome.PENDING, "a")
            return
        assert webhook.outcome is WebhookOutcome.FAILED
        assert "the Job of the newest attempt is gone" in webhook.message

    tell(story)
