"""What an entrypoint names, what its objects take from the settings, and what comes out of them."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from crewrun_api.reasons import OutputFormat, Reason
from crewrun_api.resolved import ResolvedRun
from crewrun_api.settings import LLM
from crewrun_runner import objects, sources
from crewrun_runner.answers import answer
from crewrun_runner.refusal import Refusal
from crewrun_runner.sources import Kind, Target, kind_of, needed_arguments

TARGET = Target("mine.crews", "Crew")


class Crew:
    pass


class Flow:
    pass


class OwnFlow(Flow):
    pass


class Base:
    is_crew_class = True


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Needs(metaclass=Meta):
    def __init__(self, topic: str, depth: int = 1, *rest: str, key: str, **more: str) -> None:
        pass


@pytest.mark.parametrize(
    ("text", "want"),
    [("a:B", Target("a", "B")), ("a.b:C.d", Target("a.b", "C.d")), ("a", None), ("a:", None), (":b", None),
     ("a-b:c", None), ("../a:b", None), ("a:b:c", None), ("a:b()", None)],
)  # fmt: skip
def test_a_target_is_a_module_and_a_name(text: str, want: Target | None) -> None:
    if want:
        assert (Target.parse(text), str(want)) == (want, text)
    else:
        with pytest.raises(Refusal, match=r"must be package\.module:Name"):
            Target.parse(text)


@pytest.mark.parametrize(
    ("thing", "want"),
    [(Crew(), Kind.CREW), (OwnFlow(), Kind.FLOW), (OwnFlow, Kind.FLOW_CLASS), (Base(), Kind.CREW_BASE),
     (Base, Kind.FACTORY), (len, Kind.FACTORY), (Crew, Kind.FACTORY), (3, None), (None, None), ("a", None)],
)  # fmt: skip
def test_the_kind_of_a_thing(thing: object, want: Kind | None) -> None:
    assert kind_of(thing, Crew, Flow) is want


def test_needed_arguments_are_those_without_a_default() -> None:
    assert needed_arguments(Needs) == ["topic", "key"]
    assert needed_arguments(Needs("x", key="y").__init__) == ["topic", "key"]  # type: ignore[misc]
    assert needed_arguments(lambda a=1, *b, **c: None) == []
    assert needed_arguments(Crew) == []


def failure(code: str, name: str = "/app/mine/crews.py") -> str:
    try:
        exec(compile(code, name, "exec"), {})
    except (Exception, SystemExit) as error:
        refusal = sources.failed(TARGET, "importing it", error)
        assert isinstance(refusal, Refusal) and refusal.reason is Reason.INVALID_CREW
        return refusal.message
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("code", "want"),
    [
        ("\nx = y", "importing it failed in /app/mine/crews.py, line 2: NameError: name 'y' is not defined"),
        ("import json\njson.loads('{')", "in /app/mine/crews.py, line 2: JSONDecodeError"),
        ("raise SystemExit(2)", "SystemExit: 2; remove the call of sys.exit()"),
        ("import pandas_of_mine.frame", "put pandas_of_mine into the image"),
        (
            "raise ImportError('uv add \"crewai[anthropic]\"')",
            "the runner image leaves out crewai[anthropic]: ",
        ),
        ("raise ValueError('a\\n\\x1b[31mb')", "ValueError: a [31mb"),
    ],
)
def test_what_users_code_raises_is_told_with_its_line_and_what_to_do(code: str, want: str) -> None:
    assert want in failure(code)


def test_a_refusal_within_users_code_stays_what_it_is() -> None:
    inner = Refusal(Reason.INPUT_REQUIRED, "asks")
    outer = RuntimeError("x")
    outer.__cause__ = inner
    assert sources.failed(TARGET, "making it", outer) is inner


PROFILE = LLM(model="openai/gpt-4o", base_url="http://llm/v1", temperature=0.5, timeout_seconds=60, max_retries=1)
ALL = {"temperature": 0.5, "timeout": 60, "max_retries": 1, "base_url": "http://llm/v1"}


@pytest.mark.parametrize(
    ("model", "given", "want"),
    [
        ("gpt-4o", {}, ALL),
        ("openai/x", {}, ALL),
        ("meta/llama", {"provider": "openai"}, ALL),
        ("gpt-4o", {"temperature": 0.0, "max_retries": 0}, {"timeout": 60, "base_url": "http://llm/v1"}),
        ("gpt-4o", {"temperature": None}, ALL),
        ("gpt-4o", {"api_base": "http://own"}, {key: ALL[key] for key in ("temperature", "timeout", "max_retries")}),
        ("anthropic/c", {}, {key: ALL[key] for key in ("temperature", "timeout", "max_retries")}),
        ("c", {"provider": "anthropic"}, {key: ALL[key] for key in ("temperature", "timeout", "max_retries")}),
    ],
)
def test_an_llm_takes_what_its_code_leaves_out_and_no_other_providers_address(
    model: str, given: dict[str, Any], want: dict[str, Any]
) -> None:
    assert objects.for_llm(model, given, PROFILE) == want


def test_agents_and_crews_take_what_their_code_leaves_out() -> None:
    spec = ResolvedRun.model_validate({"crew": "c", "maxRPM": 9, "verbose": True, "cache": False})
    assert objects.for_agent({}, spec) == {"max_retry_limit": 0, "verbose": True}
    assert objects.for_agent({"max_retry_limit": 2, "verbose": False}, spec) == {}
    assert objects.for_crew({"max_rpm": 1}, spec) == {"verbose": True, "cache": False}


def test_code_finds_the_model_in_crewais_variables() -> None:
    want = {"MODEL": "openai/gpt-4o", "OPENAI_MODEL_NAME": "openai/gpt-4o"}
    address = {"OPENAI_BASE_URL": "http://llm/v1", "OPENAI_API_BASE": "http://llm/v1"}
    assert objects.variables(PROFILE) == want | address
    other = objects.variables(LLM(model="ollama/x", base_url="http://o"))
    assert other == {"MODEL": "ollama/x", "OPENAI_MODEL_NAME": "ollama/x"}
    assert objects.variables(LLM()) == {}


class Verdict(BaseModel):
    good: bool = True


@dataclass
class Output:
    raw: str = "raw"
    pydantic: BaseModel | None = None
    json_dict: dict[str, Any] | None = None
    json: str = '{"a":1}'


@pytest.mark.parametrize(
    ("output", "want", "want_format"),
    [
        (Output(), "raw", OutputFormat.TEXT),
        (Output(pydantic=Verdict()), '{"good":true}', OutputFormat.JSON),
        (Output(json_dict={"a": 1}), '{"a":1}', OutputFormat.JSON),
        ("text", "text", OutputFormat.TEXT),
        (None, "", OutputFormat.TEXT),
        (Verdict(), '{"good":true}', OutputFormat.JSON),
        ({"a": [1, Verdict()]}, '{"a":[1,{"good":true}]}', OutputFormat.JSON),
        ([float("nan"), ...], '[null,"Ellipsis"]', OutputFormat.JSON),
        (7, "7", OutputFormat.JSON),
    ],
)
def test_whatever_comes_out_is_an_answer(output: Any, want: str, want_format: OutputFormat) -> None:
    found = answer(output)
    assert (found.text, found.format) == (want, want_format)
