"""Whose report is it: the Pod that a projected ServiceAccount token is bound to.

A token is checked against the API server's own public keys, with no request. Where these cannot be had, or
none fits, the API server is asked by TokenReview. What a token says is judged by pure functions; fetching
and caching stand apart. A token is never logged, and kept as its digest alone.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol, TypeGuard

import orjson
import structlog
from jwt import InvalidTokenError, PyJWK, PyJWS, PyJWTError

from crewrun_api import names
from crewrun_operator import clock
from crewrun_operator.api import ApiError
from crewrun_operator.ratelimit import Buckets

log = structlog.get_logger(__name__)

Document = dict[str, Any]

_JWKS = "/openid/v1/jwks"
_CONFIGURATION = "/.well-known/openid-configuration"
_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_LEEWAY = timedelta(seconds=10)
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp()
_KEYS_SECONDS, _FETCH_AGAIN_SECONDS = 3600.0, 10.0
_REVIEWED_SECONDS, _REFUSED_SECONDS = 60.0, 5.0
_REVIEWS_PER_SECOND = 20
_KNOWN, _REFUSED = 10_000, 1_000
#: An operator that is bound to some namespaces has no such right, which is the whole cluster's.
_NO_RIGHT = (
    "this operator may not create TokenReviews, so it needs the API server's keys: bind the ClusterRole "
    "system:service-account-issuer-discovery to the group system:serviceaccounts, as it is by default"
)
_USER_PREFIX = "system:serviceaccount:"
_EXTRA_PREFIX = "authentication.kubernetes.io/"
#: What the API server signs with, by the type of its key. That a token's header names another algorithm, or none,
#: never changes how it is checked.
_ALGORITHMS = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
}
_jws = PyJWS(algorithms=[*_ALGORITHMS.values()])


class Unauthenticated(Exception):
    """The token proves nothing. The message is for its sender and holds nothing of it."""


class Undecided(Exception):
    """Nobody can say at present whether the token is good; the same one may be tried again."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The Pod that a token is bound to, and until when the token is good."""

    namespace: str
    pod_name: str
    pod_uid: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class KeySet:
    """The public keys of the API server by their IDs, and the name that it signs with."""

    issuer: str = ""
    keys: Mapping[str, PyJWK] = field(default_factory=dict)


class Cluster(Protocol):
    """What is asked of the API server; `Api` is one."""

    async def get(self, path: str) -> Document: ...
    async def create(self, path: str, body: Document) -> Document: ...


def bound(claims: Document, now: datetime) -> Bound | str:
    """The Pod that these claims name, or why they are refused. Who signed them, if anybody, is another question."""
    audiences, expires, begins = claims.get("aud"), _time(claims.get("exp")), _time(claims.get("nbf"))
    if not isinstance(audiences, list) or names.AUDIENCE not in audiences:
        return f"the token is not for the audience {names.AUDIENCE}"
    if expires is None or begins is None:
        return "the token has no exp or no nbf"
    if expires + _LEEWAY <= now:
        return "the token has expired; read it again from its file"
    if begins - _LEEWAY > now:
        return "the token is not valid yet"
    its = claims.get("kubernetes.io")
    its = its if isinstance(its, dict) else {}
    pod = its.get("pod")
    pod = pod if isinstance(pod, dict) else {}
    namespace, name, uid = its.get("namespace"), pod.get("name"), pod.get("uid")
    if not (_text(namespace) and _text(name) and _text(uid)):
        return "the token is not bound to a Pod"
    return Bound(namespace, name, uid, expires)


def reviewed(review: Document, expires_at: datetime) -> Bound | str:
    """The Pod that the API server's answer to a TokenReview names, or why there is none."""
    status = review.get("status") or {}
    user = status.get("user") or {}
    if status.get("authenticated") is not True or names.AUDIENCE not in (status.get("audiences") or []):
        return "the API server does not take the token"
    extra = user.get("extra") or {}
    uid, name = ((extra.get(_EXTRA_PREFIX + key) or [""])[0] for key in ("pod-uid", "pod-name"))
    username = user.get("username", "")
    namespace = username.removeprefix(_USER_PREFIX).partition(":")[0]
    if not (username.startswith(_USER_PREFIX) and namespace and uid and name):
        return "the token is not bound to a Pod"
    return Bound(namespace, name, uid, expires_at)


def key_set(configuration: Document, jwks: Document) -> KeySet:
    """The keys that can be used; one of an unknown type is left to TokenReview."""
    keys: dict[str, PyJWK] = {}
    for each in jwks.get("keys") or []:
        algorithm = _ALGORITHMS.get((each.get("kty"), each.get("crv")))
        if algorithm and _text(each.get("kid")):
            try:
                keys[each["kid"]] = PyJWK(each, algorithm)
            except (PyJWTError, ValueError):
                continue
    return KeySet(str(configuration["issuer"]), keys)


def _time(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < _LATEST - 60):
        return None
    return datetime.fromtimestamp(math.floor(value), UTC)


def _text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def _unverified(token: str) -> tuple[Document, Document]:
    """Header and claims as they stand there, whoever wrote them."""
    try:
        parts = _jws.decode_complete(token, options={"verify_signature": False})
        claims = orjson.loads(parts["payload"])
    except (InvalidTokenError, ValueError):
        raise Unauthenticated("the token is no JWT") from None
    if not isinstance(claims, dict):
        raise Unauthenticated("the token is no JWT")
    return parts["header"], claims


def _verified(token: str, key: PyJWK) -> Document:
    """The claims that this key signed."""
    try:
        claims: Document = orjson.loads(_jws.decode(token, key, algorithms=[key.algorithm_name]))
    except (InvalidTokenError, ValueError):
        raise Unauthenticated("the token's signature is not the API server's") from None
    return claims


class _Keys:
    """The API server's keys, fetched when they are needed, old, or not enough."""

    def __init__(self, api: Cluster, tick: Callable[[], float]) -> None:
        self._api, self._tick = api, tick
        self._set, self._fetched_at, self._tried_at = KeySet(), -math.inf, -math.inf
        self._lock = asyncio.Lock()
        self._complaint = ""

    async def fitting(self, kid: str, issuer: object) -> KeySet:
        """The keys, fetched again where this key or this issuer is not known: both may have been changed."""
        if not self._fits(kid, issuer):
            async with self._lock:
                if not self._fits(kid, issuer) and self._tick() - self._tried_at >= _FETCH_AGAIN_SECONDS:
                    await self._fetch()
        return self._set if self._fresh else KeySet()

    @property
    def _fresh(self) -> bool:
        return self._tick() - self._fetched_at < _KEYS_SECONDS

    def _fits(self, kid: str, issuer: object) -> bool:
        return self._fresh and kid in self._set.keys and issuer == self._set.issuer

    async def _fetch(self) -> None:
        self._tried_at = self._tick()
        try:
            self._set = key_set(await self._api.get(_CONFIGURATION), await self._api.get(_JWKS))
        except Exception as error:  # whatever it is, TokenReview is left
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaint:
                log.warning("the API server's keys cannot be had; tokens are checked by TokenReview", error=complaint)
            self._complaint = complaint
        else:
            self._fetched_at, self._complaint = self._tick(), ""


class TokenChecker:
    """Checks tokens, and remembers those that were good until they expire."""

    def __init__(
        self,
        api: Cluster,
        *,
        now: Callable[[], datetime] = clock.now,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._now, self._tick = api, now, tick
        self._keys = _Keys(api, tick)
        self._reviews = Buckets(_REVIEWS_PER_SECOND, _REVIEWS_PER_SECOND, tick=tick)
        self._good: OrderedDict[bytes, tuple[Bound, float]] = OrderedDict()
        self._bad: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def known(self, token: str) -> Bound | None:
        """What was found out about this token before, while it counts."""
        digest = _digest(token)
        if (entry := self._good.get(digest)) is None:
            return None
        if entry[1] <= self._tick() or entry[0].expires_at + _LEEWAY <= self._now():
            del self._good[digest]
            return None
        self._good.move_to_end(digest)
        return entry[0]

    async def check(self, token: str) -> Bound:
        """The Pod that the token is bound to. Raises Unauthenticated, or Undecided."""
        if (known := self.known(token)) is not None:
            return known
        header, claims = _unverified(token)
        said = bound(claims, self._now())
        if isinstance(said, str):
            raise Unauthenticated(said)
        kid = str(header.get("kid"))
        trusted = await self._keys.fitting(kid, claims.get("iss"))
        if (key := trusted.keys.get(kid)) is None:
            return await self._review(token, said.expires_at)
        verified = _verified(token, key)
        if verified.get("iss") != trusted.issuer:  # an API server may take several names; it alone knows them
            return await self._review(token, said.expires_at)
        result = bound(verified, self._now())
        if isinstance(result, str):
            raise Unauthenticated(result)
        self._remember(token, result, math.inf)
        return result

    async def _review(self, token: str, expires_at: datetime) -> Bound:
        refusal, until = self._bad.get(_digest(token), ("", 0.0))
        if refusal and self._tick() < until:
            raise Unauthenticated(refusal)
        if not self._reviews.take():
            raise Undecided("too many tokens are being checked")
        spec = {"token": token, "audiences": [names.AUDIENCE]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            result = reviewed(await self._api.create(_REVIEWS, body), expires_at)
        except Exception as error:
            # The answer of an API server may quote what it was sent, and is kept to itself.
            cause = str(error.code) if isinstance(error, ApiError) else type(error).__name__
            log.warning("a TokenReview failed", cause=cause, **({"hint": _NO_RIGHT} if cause == "403" else {}))
            raise Undecided(f"the API server did not check the token ({cause})") from None
        if isinstance(result, str):
            self._bad[_digest(token)] = (result, self._tick() + _REFUSED_SECONDS)
            if len(self._bad) > _REFUSED:
                self._bad.popitem(last=False)
            raise Unauthenticated(result)
        self._remember(token, result, self._tick() + _REVIEWED_SECONDS)
        return result

    def _remember(self, token: str, result: Bound, until: float) -> None:
        self._good[_digest(token)] = (result, until)
        if len(self._good) > _KNOWN:
            self._good.popitem(last=False)


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()
