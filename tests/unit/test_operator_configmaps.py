"""What is kept of a run outside its status: written whole, never another's, and mounted by who goes on from it."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.outcome import OutputRecord
from crewrun_api.reasons import Phase, Reason
from crewrun_api.report import Upload
from crewrun_operator import paths
from crewrun_operator.api import ApiError
from crewrun_operator.apply import Applier
from crewrun_operator.attachments import Reporting
from crewrun_operator.decide import decide
from crewrun_operator.job import build_job
from crewrun_operator.keep import keep_output, save_checkpoint
from crewrun_operator.store import Store
from tests.unit.builders import (
    DEFAULTS,
    NOON,
    RUN_UID,
    CrewBuilder,
    PodBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    a_payload,
)
from tests.unit.fake_api import FakeApi, Lost

KEY = ("team-a", "report")
RUN = paths.custom(paths.CREWRUNS, *KEY)
CHECKPOINT = paths.config_maps("team-a", "report-0f3ab-checkpoint")
OUTPUT = paths.config_maps("team-a", "report-0f3ab-output")
HERE = Reporting("https://crewrun.system.svc:8443/", "-----BEGIN CERTIFICATE-----")
OWNER = [{"uid": RUN_UID}]


class Operator:
    """One life of an operator that takes reports, with a runner of attempt 1 that runs."""

    def __init__(self, api: FakeApi) -> None:
        self.api, self.store, self.now = api, Store(DEFAULTS), NOON
        self.applier = Applier(api, self.store, lambda: HERE)  # type: ignore[arg-type]
        for path, document in list(api.objects.items()):
            put = {"crewruns": self.store.put_run, "crews": self.store.put_crew, "jobs": self.store.put_job}
            if (plural := path.split("/")[-2]) in put:
                put[plural](document)

    async def settle(self) -> None:
        for _ in range(10):
            observed = self.store.observe(KEY)
            assert observed is not None
            if not await self.applier.apply(observed.run, decide(observed, self.now), self.now):
                return
        raise AssertionError("the operator never comes to rest")

    async def reported(self, report: ReportBuilder) -> None:
        self.store.put_report(report.build(), self.now)
        await self.settle()


async def running(**spec: Any) -> tuple[FakeApi, Operator]:
    api = FakeApi()
    api.put(RUN, RunBuilder().spec(**spec).build())
    api.put(paths.custom(paths.CREWS, "team-a", "research"), CrewBuilder().build())
    operator = Operator(api)
    await operator.settle()
    operator.now += timedelta(seconds=5)
    operator.store.put_pod(PodBuilder().running().build())
    await operator.settle()
    api.writes.clear()
    return api, operator


def tell(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


def test_each_checkpoint_costs_one_write() -> None:
    async def story() -> None:
        api, operator = await running()
        for sequence in (1, 2, 3):
            await operator.reported(ReportBuilder(sequence=sequence).checkpoint(b"%d" % sequence))
        maps = [write for write in api.writes if "configmaps" in write]
        assert maps == [f"POST {paths.config_maps('team-a')}", f"PUT {CHECKPOINT}", f"PUT {CHECKPOINT}"]
        assert api.objects[CHECKPOINT]["metadata"]["annotations"][names.ANNOTATION_SEQUENCE] == "3"

    tell(story)


def test_an_end_that_comes_with_a_checkpoint_is_told_once_that_is_kept() -> None:
    async def story() -> None:
        api, operator = await running()
        await operator.reported(ReportBuilder().checkpoint(b"one").outcome(RecordBuilder()))
        assert CHECKPOINT in api.objects and api.objects[RUN]["status"]["phase"] == Phase.SUCCEEDED

    tell(story)


def test_after_a_restart_an_old_checkpoint_does_not_replace_a_newer_one() -> None:
    async def story() -> None:
        api, operator = await running()
        await operator.reported(ReportBuilder(sequence=5).checkpoint(b"five"))
        restarted = Operator(api)
        restarted.store.put_pod(PodBuilder().running().build())
        await restarted.reported(ReportBuilder(sequence=4).checkpoint(b"four"))
        assert api.objects[CHECKPOINT]["metadata"]["annotations"][names.ANNOTATION_SHA256] == Upload.of(b"five").sha256
        await restarted.reported(ReportBuilder(sequence=6).checkpoint(b"six"))
        assert api.objects[CHECKPOINT]["metadata"]["annotations"][names.ANNOTATION_SHA256] == Upload.of(b"six").sha256

    tell(story)


def events(api: FakeApi) -> list[str]:
    return [each["message"] for path, each in api.objects.items() if "/events/" in path]


@pytest.mark.parametrize("owners", [[], [{"uid": "another"}]], ids=["nobody's", "another's"])
def test_a_config_map_of_somebody_else_is_left_alone(owners: list[dict[str, str]]) -> None:
    async def story() -> None:
        api, operator = await running()
        api.put(CHECKPOINT, {"metadata": {"ownerReferences": owners}, "data": {"theirs": "x"}})
        await operator.reported(ReportBuilder().checkpoint())
        assert api.objects[CHECKPOINT]["data"] == {"theirs": "x"}
        assert any("belongs to something else" in message for message in events(api))

    tell(story)


def test_a_run_does_not_stand_still_for_what_a_quota_does_not_let_it_keep() -> None:
    async def story() -> None:
        api, operator = await running()
        maps = paths.config_maps("team-a")
        api.refuse[maps] = ApiError(403, "Forbidden", "exceeded quota: configmaps")
        await operator.reported(ReportBuilder(sequence=1).checkpoint(b"one"))
        assert "ConfigMap report-0f3ab-checkpoint: exceeded quota: configmaps" in events(api)
        del api.refuse[maps]
        await operator.reported(ReportBuilder(sequence=2).checkpoint(b"two"))
        assert CHECKPOINT in api.objects, "a later one is tried again"
        api.refuse[maps] = ApiError(403, "Forbidden", "exceeded quota: configmaps")
        await operator.reported(
            ReportBuilder(sequence=3).outcome(RecordBuilder().with_(output=OutputRecord.of("x" * 50_000)))
        )
        status = api.objects[RUN]["status"]
        assert status["phase"] == Phase.SUCCEEDED
        assert (status["output"]["truncated"], "configMap" in status["output"]) == (True, False)

    tell(story)


def test_a_checkpoint_that_somebody_deleted_is_written_again() -> None:
    async def story() -> None:
        api, operator = await running()
        await operator.reported(ReportBuilder(sequence=1).checkpoint(b"one"))
        api.vanish(CHECKPOINT)
        await operator.reported(ReportBuilder(sequence=2).checkpoint(b"two"))
        assert CHECKPOINT in api.objects

    tell(story)


@pytest.mark.parametrize("answer_lost", [False, True], ids=["request", "answer"])
def test_a_large_output_is_stored_before_the_run_is_said_to_have_succeeded(answer_lost: bool) -> None:
    """At each write once: nothing is lost, and no status speaks of a ConfigMap that is not there."""

    async def story() -> None:
        for write in itertools.count(1):
            api, operator = await running()
            (api.lose_answer if answer_lost else api.lose_request)(write)
            done = ReportBuilder().outcome(RecordBuilder().with_(output=OutputRecord.of("x" * 50_000)))
            try:
                await operator.reported(done)
            except (Lost, ApiError):
                told = api.objects[RUN]["status"]
                assert OUTPUT in api.objects or told["phase"] != Phase.SUCCEEDED
                operator = Operator(api)  # it was killed there: the runner had no 200 and sends again
                operator.store.put_pod(PodBuilder().running().build())
                await operator.reported(done)
            status = api.objects[RUN]["status"]
            assert (status["phase"], status["output"]["configMap"]) == (Phase.SUCCEEDED, "report-0f3ab-output")
            assert api.objects[OUTPUT]["data"]["output"] == "x" * 50_000
            if write > len(api.writes):
                return

    tell(story)


@pytest.mark.parametrize(
    ("written_by", "owners", "want_mounted"),
    [
        pytest.param("1", OWNER, True, id="of the attempt before"),
        pytest.param("0", OWNER, False, id="of before an earlier success"),
        pytest.param("1", [{"uid": "another"}], False, id="of another run"),
        pytest.param("x", OWNER, False, id="edited"),
        pytest.param(None, OWNER, False, id="there is none"),
    ],
)
def test_a_retry_mounts_the_checkpoint_it_may_go_on_from(
    written_by: str | None, owners: list[dict[str, str]], want_mounted: bool
) -> None:
    async def story() -> None:
        api, operator = await running()
        if written_by is not None:
            annotations = {names.ANNOTATION_ATTEMPT: written_by, names.ANNOTATION_SHA256: "abc"}
            api.put(CHECKPOINT, {"metadata": {"annotations": annotations, "ownerReferences": owners}})
        failed = RecordBuilder().failed(Reason.LLM_UNAVAILABLE).text()
        operator.store.put_pod(PodBuilder().ended(20, failed).at(50).build())
        await operator.settle()
        operator.now += timedelta(minutes=5)
        await operator.settle()
        job = api.objects[f"{paths.jobs('team-a')}/report-0f3ab-2"]["spec"]["template"]["spec"]
        (container,) = job["containers"]
        assert ("crewrun-checkpoint" in [volume["name"] for volume in job["volumes"]]) is want_mounted
        expected = [each["value"] for each in container["env"] if each["name"] == names.ENV_CHECKPOINT_SHA256]
        assert expected == (["abc"] if want_mounted else [])

    tell(story)


def pod_of(reporting: Reporting | None, checkpoint: str | None = None, **settings: Any) -> dict[str, Any]:
    template = build_job(RunBuilder().build(), 2, a_payload(**settings), reporting, checkpoint)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    volumes = {volume.pop("name"): volume for volume in template["spec"]["volumes"]}
    return {
        "volumes": {name: volume for name, volume in volumes.items() if name in _EXTRA},
        "mounts": {m["name"]: m["mountPath"] for m in container["volumeMounts"] if m["name"] in _EXTRA},
        "env": {each["name"]: each.get("value") for each in container["env"] if each["name"] in _EXTRA_ENV},
        "authorities": template["metadata"]["annotations"].get(names.ANNOTATION_CA),
    }


_EXTRA = {"crewrun-report", "crewrun-checkpoint", "crewrun-checkpoint-keys"}
_EXTRA_ENV = {names.ENV_REPORT_URL, names.ENV_CHECKPOINT_SHA256}
ENCRYPTED = {"checkpointEncryption": {"secretName": "keys"}}


def test_a_runner_reports_to_its_own_attempt_by_a_token_for_the_operator_alone() -> None:
    pod = pod_of(HERE)
    assert pod["env"] == {names.ENV_REPORT_URL: "https://crewrun.system.svc:8443/v1/runs/team-a/report/attempts/2"}
    assert pod["mounts"] == {"crewrun-report": "/var/run/crewrun/report"}
    assert pod["authorities"] == HERE.authorities
    token, authorities = pod["volumes"]["crewrun-report"]["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == "crewrun.dev"
    assert authorities["downwardAPI"]["items"][0]["path"] == "ca.crt"


@pytest.mark.parametrize(
    ("reporting", "paced", "want"), [(HERE, True, "true"), (HERE, False, None), (None, True, None)]
)
def test_a_runner_waits_for_leases_if_its_queue_has_a_rate_and_it_can_be_told_of_them(
    reporting: Reporting | None, paced: bool, want: str | None
) -> None:
    job = build_job(RunBuilder().build(), 2, a_payload(), reporting, paced=paced)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {each["name"]: each.get("value") for each in container["env"]}.get(names.ENV_PACED) == want


def test_keys_for_checkpoints_are_mounted_by_the_runner() -> None:
    pod = pod_of(HERE, **ENCRYPTED)
    assert pod["volumes"]["crewrun-checkpoint-keys"]["secret"]["secretName"] == "keys"
    assert pod["mounts"]["crewrun-checkpoint-keys"] == "/var/run/crewrun/checkpoint-keys"


def test_a_checkpoint_may_vanish_without_holding_up_the_attempt() -> None:
    pod = pod_of(HERE, "abc")
    assert pod["volumes"]["crewrun-checkpoint"]["configMap"] == {"name": "report-0f3ab-checkpoint", "optional": True}
    assert pod["env"][names.ENV_CHECKPOINT_SHA256] == "abc"


def test_without_reports_nothing_is_attached() -> None:
    assert pod_of(None, **ENCRYPTED) == {"volumes": {}, "mounts": {}, "env": {}, "authorities": None}


def test_what_is_kept_of_a_run_belongs_to_it_and_carries_no_mark_of_a_tool() -> None:
    """What tells Argo CD or `kubectl apply --prune` that an object is theirs stays on the run."""
    marks = {"app.kubernetes.io/instance": "crews", "argocd.argoproj.io/tracking-id": "crews:x"}
    run = RunBuilder().metadata(labels=marks, annotations=marks).build()
    checkpoint = save_checkpoint(run, ReportBuilder().checkpoint().build()).manifest
    _, output = keep_output(run, OutputRecord.of("x" * 5000), [])
    assert output is not None
    for metadata in (checkpoint["metadata"], output.manifest["metadata"]):
        assert not marks.keys() & {*metadata["labels"], *metadata.get("annotations", {})}
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("CrewRun", RUN_UID)
