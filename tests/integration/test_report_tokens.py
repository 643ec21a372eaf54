"""Tokens that a real API server makes for a Pod, checked by its public keys and by TokenReview."""

import asyncio
from dataclasses import dataclass

import pytest
from kubernetes.aio import client, config

from crewrun_api import names
from crewrun_operator.api import Api, ApiError, Document
from crewrun_operator.metrics import Metrics
from crewrun_operator.tokens import Bound, TokenChecker, Unauthenticated
from tests.support.kube import Kube

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "reporter"},
    "spec": {"containers": [{"name": names.CONTAINER, "image": "none"}]},
}


@dataclass
class Counting:
    """The operator's own door to the API server, which notes what goes through it."""

    api: Api
    asked: list[str]
    without_keys: bool = False

    async def get(self, path: str) -> Document:
        self.asked.append(path)
        if self.without_keys:
            raise ApiError(403, "Forbidden", "no keys for you")
        return await self.api.get(path)

    async def create(self, path: str, body: Document) -> Document:
        self.asked.append(path)
        return await self.api.create(path, body)


@pytest.fixture
def pod(space: Kube) -> Kube:
    space.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    space.apply(POD)
    return space


def token(pod: Kube, *arguments: str) -> str:
    return pod.kubectl("create", "token", "default", *arguments).strip()


def bound_token(pod: Kube, audience: str = names.AUDIENCE) -> str:
    return token(pod, "--audience", audience, "--bound-object-kind", "Pod", "--bound-object-name", "reporter")


def checked(
    pod: Kube, sent: str, credentials: str | None = None, without_keys: bool = False
) -> tuple[Bound, list[str]]:
    """The Pod of a token and what was asked for it, by the cluster's admin or with other credentials."""

    async def work() -> tuple[Bound, list[str]]:
        configuration = client.Configuration()
        await config.load_kube_config(str(pod.kubeconfig), client_configuration=configuration)
        if credentials:
            configuration.cert_file = configuration.key_file = None
            configuration.api_key = {"BearerToken": f"Bearer {credentials}"}
        api = Api(configuration, Metrics())
        door = Counting(api, [], without_keys)
        try:
            return await TokenChecker(door).check(sent), door.asked
        finally:
            await api.close()

    return asyncio.run(work())


def test_the_keys_of_the_api_server_prove_whose_token_it_is_to_any_service_account(pod: Kube) -> None:
    got, asked = checked(pod, bound_token(pod), credentials=token(pod))
    want_uid = pod.get("pod", "reporter")["metadata"]["uid"]
    assert (got.namespace, got.pod_name, got.pod_uid) == (pod.namespace, "reporter", want_uid)
    assert asked == ["/.well-known/openid-configuration", "/openid/v1/jwks"]


def test_a_token_review_names_the_same_pod(pod: Kube) -> None:
    sent = bound_token(pod)
    got, asked = checked(pod, sent, without_keys=True)
    assert asked[-1].endswith("/tokenreviews")
    assert got == checked(pod, sent)[0]


@pytest.mark.parametrize("without_keys", [False, True])
def test_a_token_of_another_audience_or_of_no_pod_is_refused(pod: Kube, without_keys: bool) -> None:
    for sent in (bound_token(pod, "https://kubernetes.default.svc"), token(pod, "--audience", names.AUDIENCE)):
        with pytest.raises(Unauthenticated):
            checked(pod, sent, without_keys=without_keys)


def test_a_token_of_a_pod_that_is_gone_is_refused_by_review(pod: Kube) -> None:
    sent = bound_token(pod)
    pod.kubectl("delete", "pod", "reporter", "--force", "--grace-period=0")
    with pytest.raises(Unauthenticated):
        checked(pod, sent, without_keys=True)
