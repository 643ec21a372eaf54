"""Which reply a request gets. No I/O and no clock: requests in, replies out, counters in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .requests import ChatRequest
from .script import Match, Reply, Script

DEFAULT_RULE = "default"


@dataclass(frozen=True)
class Turn:
    """The reply chosen for one request, and the rule that gave it."""

    rule: str
    reply: Reply


class Player:
    """Plays one script: each rule hands out its replies in turn, whoever asks."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._used = [0] * len(script.rules)

    def next(self, request: ChatRequest, headers: Mapping[str, str], key_sha256: str | None) -> Turn:
        """The first rule that matches and has a reply left; a rule that is used up lets later ones answer."""
        for position, rule in enumerate(self.script.rules):
            if not matches(rule.match, request, headers, key_sha256):
                continue
            reply = reply_at(rule.replies, self._used[position])
            if reply is not None:
                self._used[position] += 1
                return Turn(rule.name or f"rules[{position}]", reply)
        return Turn(DEFAULT_RULE, self.script.default)

    def rewind(self) -> None:
        """Every rule starts with its first reply again."""
        self._used = [0] * len(self.script.rules)


def matches(match: Match, request: ChatRequest, headers: Mapping[str, str], key_sha256: str | None) -> bool:
    """Whether every condition that is given holds. Header names in `headers` must be in lower case."""
    if match.model and not match.model.fullmatch(request.model):
        return False
    if match.authorization_sha256 and match.authorization_sha256 != key_sha256:
        return False
    if match.user and not match.user.search(request.last_text("user")):
        return False
    if match.system and not match.system.search(request.last_text("system", "developer")):
        return False
    if match.any_message and not any(match.any_message.search(message.text) for message in request.messages):
        return False
    return all(pattern.search(headers.get(name.lower(), "")) for name, pattern in match.headers.items())


def reply_at(replies: Sequence[Reply], turn: int) -> Reply | None:
    """The reply for the turn-th use of a rule (from 0); None when all are used up."""
    for reply in replies:
        if reply.repeat is None and reply is replies[-1]:
            return reply
        turn -= reply.repeat or 1
        if turn < 0:
            return reply
    return None
