"""The script of the scripted LLM: what a YAML or JSON document may say, and how it is read.

Only data lives here. Which rule answers a request is decided in `matching`, what the answer looks like on the
wire in `replies` and `errors`, and the HTTP edge is `server`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

MAX_HOLD_SECONDS = 600.0


class ScriptError(ValueError):
    """A script that cannot be used; the text has one line per problem, each with the path of the field."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n  ".join([f"{source}: the script cannot be used:", *problems]))


def _compile(value: object) -> re.Pattern[str]:
    if isinstance(value, re.Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a regular expression, as text")
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error


Regex = Annotated[re.Pattern[str], BeforeValidator(_compile)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Match(_Model):
    """Conditions on a request. All that are given must hold; none given matches every request."""

    user: Regex | None = Field(default=None, description="searched in the text of the last user message")
    system: Regex | None = Field(default=None, description="searched in the text of the last system message")
    any_message: Regex | None = Field(default=None, description="searched in each message; one hit is enough")
    model: Regex | None = Field(default=None, description="must match the whole model name")
    authorization_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the bearer key, in lower-case hex",
    )
    headers: dict[str, Regex] = Field(
        default={}, description="header name, in any case, to a regex searched in its value"
    )


class Usage(_Model):
    """Token numbers to report instead of the counted ones."""

    prompt_tokens: int | None = Field(default=None, ge=0)
    completion_tokens: int | None = Field(default=None, ge=0)
    cached_tokens: int = Field(default=0, ge=0, description="part of the prompt; never reported above promptTokens")
    reasoning_tokens: int = Field(default=0, ge=0, description="part of the completion, reported as a detail")


class ToolCall(_Model):
    name: str = Field(min_length=1)
    arguments: dict[str, Any] = {}


class FaultKind(StrEnum):
    """What can go wrong besides an HTTP error status. The values are written in scripts and in the ledger."""

    TIMEOUT = "timeout"  # holds the request until the client goes away, `seconds` at most, then hangs up
    CONNECTION_RESET = "connectionReset"  # a TCP reset instead of an answer
    CONTEXT_TOO_LONG = "contextTooLong"  # 400 with code context_length_exceeded
    GARBAGE = "garbage"  # 200 that promises JSON and is cut in the middle
    HTML = "html"  # 200 with a page, as a proxy or a login portal gives it
    NO_CHOICES = "noChoices"  # 200, well-formed, with an empty list of choices


class Fault(_Model):
    """Either an HTTP error `status` or a `kind`. A plain string is short for `{kind: ...}`."""

    status: int | None = Field(default=None, ge=400, le=599)
    kind: FaultKind | None = None
    code: str | None = Field(default=None, description="for status: another error code than its usual one")
    message: str | None = Field(default=None, description="for status: another text than its usual one")
    retry_after_seconds: float | None = Field(default=None, ge=0, description="for status: sent as Retry-After")
    echo_key: bool = Field(default=False, description="for status: quotes the caller's key in the text")
    seconds: float | None = Field(default=None, gt=0, le=MAX_HOLD_SECONDS, description="for timeout: how long at most")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.status is None) == (self.kind is None):
            raise ValueError("give either status or kind")
        of_status = {"code", "message", "retry_after_seconds", "echo_key"}
        if self.status is None and self.model_fields_set & of_status:
            raise ValueError("code, message, retryAfterSeconds and echoKey belong to a status")
        if self.seconds is not None and self.kind is not FaultKind.TIMEOUT:
            raise ValueError("seconds belongs to the kind timeout")
        return self


class Reply(_Model):
    """One answer: exactly one of `text`, `toolCalls` and `fault`."""

    text: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, min_length=1)
    fault: Fault | None = None
    usage: Usage | None = None
    delay_seconds: float = Field(default=0, ge=0, le=MAX_HOLD_SECONDS, description="wait before the first byte")
    repeat: int | None = Field(
        default=None,
        ge=1,
        description="times it is given; default 1, and without end for a rule's last reply",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("text", "tool_calls", "fault") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of text, toolCalls and fault")
        if self.fault and self.usage:
            raise ValueError("a fault reports no usage")
        return self


class Rule(_Model):
    name: str | None = Field(default=None, min_length=1, description="shown in the ledger; default rules[<position>]")
    match: Match = Match.model_validate({})
    replies: list[Reply] = Field(min_length=1)


# CrewAI takes plain text as an agent's final answer, so this ends any task that no rule knows.
DEFAULT_REPLY = Reply(text="The script has no rule for this request, so this is its default answer.")


class Script(_Model):
    """A whole script: the first rule that matches and still has a reply answers, else `default`."""

    models: list[str] = Field(default=[], description="known models; empty: every name is known")
    rules: list[Rule] = []
    default: Reply = DEFAULT_REPLY

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [rule.name for rule in self.rules if rule.name]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rule names must be used once: {', '.join(twice)}")
        if self.default.repeat is not None:
            raise ValueError("default.repeat: the default reply has no end")
        return self


def read_script(source: Script | Mapping[str, Any] | str | Path | None) -> Script:
    """A script from a file (Path), YAML or JSON text (str), a mapping, or None for the default alone."""
    if isinstance(source, Script):
        return source
    if source is None:
        return Script()
    if isinstance(source, Path):
        try:
            return parse_script(source.read_text(encoding="utf-8"), str(source))
        except (OSError, UnicodeDecodeError) as error:
            raise ScriptError(str(source), [f"cannot be read: {_why(error)}"]) from error
    if isinstance(source, str):
        return parse_script(source)
    return _validate(source, "script")


def parse_script(text: str, source: str = "script") -> Script:
    """A script from YAML or JSON text; `source` names it in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScriptError(source, [f"is neither YAML nor JSON: {' '.join(str(error).split())}"]) from error
    return _validate(data, source)


def _validate(data: object, source: str) -> Script:
    try:
        return Script.model_validate(data)
    except ValidationError as error:
        raise ScriptError(source, [_problem(item["loc"], item["msg"]) for item in error.errors()]) from error


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else f"is not UTF-8 text: {error.reason}"


def _problem(location: tuple[int | str, ...], message: str) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return f"{path or '(top)'}: {message.removeprefix('Value error, ')}"
