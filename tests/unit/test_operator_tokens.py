"""Tokens: which are believed, at what cost, and what is asked of the API server for it."""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from crewrun_api import names
from crewrun_operator import tokens
from crewrun_operator.api import ApiError
from crewrun_operator.ratelimit import Buckets
from crewrun_operator.tokens import Bound, TokenChecker, Unauthenticated, Undecided, bound, key_set, reviewed

Document = dict[str, Any]
JWKS, CONFIGURATION = "/openid/v1/jwks", "/.well-known/openid-configuration"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ISSUER = "https://kubernetes.default.svc.cluster.local"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RSA = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
WANT = Bound("team-a", "report-0f3ab-1-x7k2p", "pod-uid", NOW + timedelta(hours=1))
FORBIDDEN = ApiError(403, "Forbidden", "no")


class Clock:
    """The time of day and the time that passes, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def tick(self) -> float:
        return 5000 + self.seconds


class Server:
    """An API server's keys and its judgement of tokens; an error stands for an answer that is one."""

    def __init__(self, *keys: Document, taken: bool = False) -> None:
        self.documents: dict[str, Document | Exception] = {
            JWKS: {"keys": list(keys)},
            CONFIGURATION: {"issuer": ISSUER},
        }
        self.review: Document | Exception = review() if taken else review(authenticated=False)
        self.asked: list[str] = []
        self.bodies: list[Document] = []

    async def get(self, path: str) -> Document:
        return await self._answer(path, self.documents[path])

    async def create(self, path: str, body: Document) -> Document:
        self.bodies.append(body)
        return await self._answer(path, self.review)

    async def _answer(self, path: str, answer: Document | Exception) -> Document:
        self.asked.append(path)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def review(authenticated: bool = True, **changed: Any) -> Document:
    extra = {name: [value] for name, value in EXTRA.items()}
    user = {"username": "system:serviceaccount:team-a:default", "extra": extra}
    return {"status": {"authenticated": authenticated, "audiences": [names.AUDIENCE], "user": user, **changed}}


EXTRA = {
    "authentication.kubernetes.io/pod-uid": WANT.pod_uid,
    "authentication.kubernetes.io/pod-name": WANT.pod_name,
}


def claims(**changed: Any) -> Document:
    """The claims of a projected token, as a real API server writes them."""
    its = {"namespace": "team-a", "pod": {"name": WANT.pod_name, "uid": WANT.pod_uid}, "serviceaccount": {}}
    times = {"exp": int(WANT.expires_at.timestamp()), "iat": int(NOW.timestamp()), "nbf": int(NOW.timestamp())}
    whole = {"iss": ISSUER, "aud": [names.AUDIENCE], "kubernetes.io": its, **times, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def jwk(key: Any, kid: str) -> Document:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def signed(content: Document, key: Any = RSA[0], kid: str | None = "one", algorithm: str = "RS256") -> str:
    return jwt.encode(content, key, algorithm, headers={"kid": kid} if kid else None)


def forged(header: Document, content: Any, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(content).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def by_hmac_with_the_public_key() -> str:
    """What a library takes for good that lets the token name the algorithm. PyJWT itself will not make it."""
    pem = RSA[0].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = forged({"alg": "HS256", "kid": "one"}, claims()).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), pem)
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def checking(server: Server) -> tuple[TokenChecker, Clock]:
    clock = Clock()
    return TokenChecker(server, now=clock.now, tick=clock.tick), clock


def outcome(work: Callable[[], Coroutine[Any, Any, Bound]]) -> Bound | str:
    """The Pod, or which error it was."""
    try:
        return asyncio.run(work())
    except (Unauthenticated, Undecided) as error:
        return f"{type(error).__name__}: {error}"


def test_a_token_that_the_api_server_signed_names_its_pod() -> None:
    server = Server(jwk(RSA[0], "one"))
    checker, _ = checking(server)
    assert outcome(lambda: checker.check(signed(claims()))) == WANT
    assert server.asked == [CONFIGURATION, JWKS], "no TokenReview"


@pytest.mark.parametrize(
    ("curve", "algorithm"), [(ec.SECP256R1(), "ES256"), (ec.SECP384R1(), "ES384"), (ec.SECP521R1(), "ES512")]
)
def test_keys_on_elliptic_curves_are_used(curve: ec.EllipticCurve, algorithm: str) -> None:
    key = ec.generate_private_key(curve)
    server = Server(jwk(key, "curve"))
    checker, _ = checking(server)
    assert outcome(lambda: checker.check(signed(claims(), key, "curve", algorithm))) == WANT
    assert REVIEWS not in server.asked


SECONDS = int(NOW.timestamp())
REFUSED = {
    "no JWT": ("garbage", "no JWT"),
    "an empty token": ("", "no JWT"),
    "bytes that are no text": ("\udcff.\udcff.\udcff", "no JWT"),
    "claims that are no object": (forged({"alg": "RS256", "kid": "one"}, [1]), "no JWT"),
    "another audience": (signed(claims(aud=["https://kubernetes.default.svc"])), "not for the audience"),
    "an audience that is not in a list": (signed(claims(aud=names.AUDIENCE)), "not for the audience"),
    "no audience": (signed(claims(aud=None)), "not for the audience"),
    "expired": (signed(claims(exp=SECONDS - 10)), "has expired"),
    "no expiry": (signed(claims(exp=None)), "no exp or no nbf"),
    "an expiry beyond the calendar": (signed(claims(exp=10**30)), "no exp or no nbf"),
    "an expiry that is true": (signed(claims(exp=True)), "no exp or no nbf"),
    "not yet valid": (signed(claims(nbf=SECONDS + 11)), "not valid yet"),
    "no beginning": (signed(claims(nbf=None)), "no exp or no nbf"),
    "no claim of Kubernetes": (signed(claims(**{"kubernetes.io": None})), "not bound to a Pod"),
    "no Pod": (signed(claims(**{"kubernetes.io": {"namespace": "team-a"}})), "not bound to a Pod"),
    "a Pod without UID": (
        signed(claims(**{"kubernetes.io": {"namespace": "team-a", "pod": {"name": "p"}}})),
        "not bound to a Pod",
    ),
    "signed by another key of the same ID": (signed(claims(), RSA[1]), "signature"),
    "changed after it was signed": (
        ".".join([*signed(claims(jti="another")).split(".")[:2], signed(claims()).split(".")[2]]),
        "signature",
    ),
    "algorithm none": (forged({"alg": "none", "kid": "one"}, claims()), "signature"),
    "HS256 with the public key as the secret": (by_hmac_with_the_public_key(), "signature"),
    "RS512 with the right key": (signed(claims(), algorithm="RS512"), "signature"),
}


@pytest.mark.parametrize(("token", "want"), REFUSED.values(), ids=REFUSED)
def test_a_token_that_proves_nothing_is_refused_without_a_review(token: str, want: str) -> None:
    server = Server(jwk(RSA[0], "one"), taken=True)
    checker, _ = checking(server)
    said = outcome(lambda: checker.check(token))
    assert isinstance(said, str) and said.startswith("Unauthenticated: ") and want in said
    assert REVIEWS not in server.asked
    assert not token or token not in said


@pytest.mark.parametrize(
    ("changed", "want"),
    [({"exp": SECONDS - 9}, True), ({"exp": SECONDS - 10}, False), ({"nbf": SECONDS + 10}, True)],
)
def test_clocks_may_differ_by_ten_seconds(changed: Document, want: bool) -> None:
    assert isinstance(bound(claims(**changed), NOW), Bound) == want


def test_a_flood_of_garbage_asks_the_api_server_for_nothing() -> None:
    server = Server()
    checker, _ = checking(server)
    for number in range(100):
        outcome(lambda number=number: checker.check(f"garbage.{number}.x"))
        outcome(lambda number=number: checker.check(signed(claims(exp=SECONDS - 60 - number))))
    assert server.asked == []


def test_a_new_key_is_fetched_when_a_token_is_signed_with_it_at_most_each_ten_seconds() -> None:
    server = Server(jwk(RSA[0], "one"))
    checker, clock = checking(server)
    outcome(lambda: checker.check(signed(claims())))
    server.documents[JWKS] = {"keys": [jwk(RSA[0], "one"), jwk(RSA[1], "two")]}
    new = signed(claims(), RSA[1], "two")
    clock.seconds = 9.9
    assert "does not take" in str(outcome(lambda: checker.check(new))), "by TokenReview, which here says no"
    assert server.asked.count(JWKS) == 1
    clock.seconds = 15.0
    assert outcome(lambda: checker.check(new)) == WANT
    assert server.asked.count(JWKS) == 2


def test_a_new_name_of_the_api_server_is_fetched_when_a_token_carries_it() -> None:
    server = Server(jwk(RSA[0], "one"))
    checker, clock = checking(server)
    outcome(lambda: checker.check(signed(claims())))
    server.documents[CONFIGURATION] = {"issuer": "https://new"}
    clock.seconds = 10.0
    assert outcome(lambda: checker.check(signed(claims(iss="https://new")))) == WANT
    assert REVIEWS not in server.asked


def test_keys_are_fetched_again_each_hour_and_an_old_one_is_believed_no_longer() -> None:
    server = Server(jwk(RSA[0], "one"))
    checker, clock = checking(server)
    outcome(lambda: checker.check(signed(claims())))
    server.documents[JWKS] = {"keys": [jwk(RSA[1], "two")]}
    clock.seconds = 3600
    late = signed(claims(exp=SECONDS + 7200))
    assert "does not take" in str(outcome(lambda: checker.check(late)))
    assert server.asked == [CONFIGURATION, JWKS, CONFIGURATION, JWKS, REVIEWS]


def test_keys_that_cannot_be_had_again_are_not_believed_for_longer() -> None:
    server = Server(jwk(RSA[0], "one"), taken=True)
    checker, clock = checking(server)
    outcome(lambda: checker.check(signed(claims())))
    server.documents[JWKS] = FORBIDDEN
    clock.seconds = 3600
    assert isinstance(outcome(lambda: checker.check(signed(claims(exp=SECONDS + 7200)))), Bound)
    assert server.asked[-1] == REVIEWS


def test_many_at_once_fetch_the_keys_once() -> None:
    server = Server(jwk(RSA[0], "one"))
    checker, _ = checking(server)

    async def many() -> list[Bound]:
        return await asyncio.gather(*(checker.check(signed(claims(jti=str(n)))) for n in range(10)))

    assert asyncio.run(many()) == [WANT] * 10
    assert server.asked == [CONFIGURATION, JWKS]


UNUSABLE = {
    "keys that may not be read": lambda server: server.documents.update({JWKS: FORBIDDEN}),
    "an API server without keys": lambda server: server.documents.update({JWKS: ApiError(404, "NotFound", "")}),
    "no issuer": lambda server: server.documents.update({CONFIGURATION: {}}),
    "keys that are none": lambda server: server.documents.update({JWKS: {"keys": [{"kty": "RSA", "kid": "one"}]}}),
    "a key of an unknown type": lambda server: server.documents.update(
        {JWKS: {"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}]}}
    ),
    "a key of another ID": lambda server: server.documents.update({JWKS: {"keys": [jwk(RSA[0], "other")]}}),
    "another issuer": lambda server: server.documents.update({CONFIGURATION: {"issuer": "https://other"}}),
}


@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("taken", [True, False])
def test_where_no_key_fits_the_api_server_decides(spoil: Callable[[Server], None], taken: bool) -> None:
    server = Server(jwk(RSA[0], "one"), taken=taken)
    spoil(server)
    checker, _ = checking(server)
    token = signed(claims())
    said = outcome(lambda: checker.check(token))
    assert said == (WANT if taken else "Unauthenticated: the API server does not take the token")
    assert server.bodies[0]["spec"] == {"token": token, "audiences": [names.AUDIENCE]}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": {}},
        review(authenticated=False),
        review(audiences=["https://kubernetes.default.svc"]),
        review(audiences=None),
        review(user={"username": "system:serviceaccount:team-a:default"}),
        review(user={"username": "system:node:n", "extra": {name: [value] for name, value in EXTRA.items()}}),
        review(user={"username": "system:serviceaccount:team-a:default", "extra": {next(iter(EXTRA)): ["u"]}}),
    ],
)
def test_a_review_that_names_no_pod_is_a_refusal(answer: Document) -> None:
    assert isinstance(reviewed(answer, NOW), str)


def test_a_token_that_was_verified_is_known_until_it_expires() -> None:
    server = Server(jwk(RSA[0], "one"))
    checker, clock = checking(server)
    token = signed(claims())
    outcome(lambda: checker.check(token))
    server.documents[JWKS] = FORBIDDEN
    clock.seconds = 3609
    assert outcome(lambda: checker.check(token)) == WANT
    clock.seconds = 3610
    assert "expired" in str(outcome(lambda: checker.check(token)))
    assert len(server.asked) == 2


def test_a_review_is_believed_for_a_minute_and_a_refusal_for_five_seconds() -> None:
    server = Server(taken=True)
    checker, clock = checking(server)
    token = signed(claims())
    for clock.seconds, want_reviews in ((0, 1), (59, 1), (60, 2)):
        assert outcome(lambda: checker.check(token)) == WANT
        assert len(server.bodies) == want_reviews
    server.review = review(authenticated=False)
    for clock.seconds, want_reviews in ((120, 3), (124.9, 3), (125, 4)):
        assert "does not take" in str(outcome(lambda: checker.check(token)))
        assert len(server.bodies) == want_reviews


def test_reviews_are_at_most_twenty_a_second() -> None:
    server = Server(taken=False)
    checker, clock = checking(server)
    said = [outcome(lambda number=number: checker.check(signed(claims(jti=str(number))))) for number in range(30)]
    assert len(server.bodies) == 20
    assert [str(each).split(":")[0] for each in said] == ["Unauthenticated"] * 20 + ["Undecided"] * 10
    clock.seconds = 0.5
    for number in range(30, 60):
        outcome(lambda number=number: checker.check(signed(claims(jti=str(number)))))
    assert len(server.bodies) == 30


@pytest.mark.parametrize("error", [ApiError(500, "", "it said: eyJhbGciOiJSUzI1NiI"), FORBIDDEN, OSError("refused")])
def test_an_api_server_that_gives_no_answer_leaves_it_undecided(error: Exception) -> None:
    server = Server()
    server.review = error
    checker, _ = checking(server)
    said = str(outcome(lambda: checker.check(signed(claims()))))
    assert said.startswith("Undecided: ") and "eyJ" not in said
    server.review = review()
    assert outcome(lambda: checker.check(signed(claims()))) == WANT, "nothing of it was remembered"


def test_what_is_remembered_is_bounded_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_KNOWN", 3)
    monkeypatch.setattr(tokens, "_REFUSED", 2)
    server = Server(jwk(RSA[0], "one"))
    checker, _ = checking(server)
    sent = [signed(claims(jti=str(number))) for number in range(5)]
    sent += [signed(claims(jti=str(number)), RSA[1], "unknown") for number in range(5)]
    for token in sent:
        outcome(lambda token=token: checker.check(token))
    assert [checker.known(token) is not None for token in sent[:5]] == [False, False, True, True, True]
    assert (len(checker._good), len(checker._bad)) == (3, 2)
    assert not any(token in repr(vars(checker)) for token in sent)


def test_no_token_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    server.documents[JWKS], server.review = FORBIDDEN, FORBIDDEN
    checker, _ = checking(server)
    token = signed(claims())
    outcome(lambda: checker.check(token))
    printed = "".join(capsys.readouterr())
    assert "TokenReview" in printed and token.split(".")[2] not in printed


@pytest.mark.parametrize(("error", "want"), [(FORBIDDEN, True), (ApiError(500, "", "no"), False)])
def test_an_operator_that_has_no_right_to_ask_says_what_it_needs(
    error: ApiError, want: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server()
    server.review = error
    checker, _ = checking(server)
    outcome(lambda: checker.check(signed(claims())))
    assert ("system:service-account-issuer-discovery" in capsys.readouterr().out) is want


def test_a_key_without_an_id_or_of_an_unknown_curve_is_left_out() -> None:
    keys = [
        {**jwk(RSA[0], ""), "alg": "RS256"},
        jwk(ec.generate_private_key(ec.SECP256K1()), "bitcoin"),
        jwk(RSA[1], "good"),
    ]
    assert list(key_set({"issuer": ISSUER}, {"keys": keys}).keys) == ["good"]


def test_a_bucket_fills_again_with_time_and_never_beyond_its_burst() -> None:
    clock = Clock()
    buckets = Buckets(2, 3, tick=clock.tick)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert (buckets.spent("a"), buckets.spent("b")) == (True, False)
    clock.seconds = 0.5
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    clock.seconds = 3600
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_buckets_are_bounded() -> None:
    buckets = Buckets(1, 1, tick=Clock().tick, limit=2)
    for key in ("a", "b", "c"):
        buckets.take(key)
    assert [buckets.spent(key) for key in ("a", "b", "c")] == [False, True, True]
