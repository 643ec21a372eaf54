"""Merging: operator settings < profile < crew < run."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.merge import merge
from crewrun_operator.resolve import choose_profile
from tests.unit.builders import NOON, ProfileBuilder


def variable(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def key(name: str, secret: str) -> dict[str, Any]:
    return {"name": name, "secretKeyRef": {"name": secret, "key": "k"}}


def files(path: str, secret: str) -> dict[str, Any]:
    return {"mountPath": path, "secretName": secret}


@pytest.mark.parametrize(
    ("layers", "want_merged"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([{"maxRPM": 1}, {"maxRPM": 2}, {"maxRPM": 3}], {"maxRPM": 3}, id="the last is the strongest"),
        pytest.param([{"maxRPM": 1}, {}, {}], {"maxRPM": 1}, id="silence leaves the weaker"),
        pytest.param([{"verbose": True}, {"verbose": False}], {"verbose": False}, id="false is said, not silence"),
        pytest.param([{"ttlSecondsAfterFinished": 60}, {"ttlSecondsAfterFinished": 0}],
                     {"ttlSecondsAfterFinished": 0}, id="0 is said, not silence"),
        pytest.param([{"timeoutSeconds": 60}, {"timeoutSeconds": None}], {"timeoutSeconds": None},
                     id="null takes away"),
        pytest.param([{"llm": {"model": "a", "temperature": 0.5}}, {"llm": {"model": "b"}}],
                     {"llm": {"model": "b", "temperature": 0.5}}, id="objects are merged by field"),
        pytest.param([{"retry": {"backoff": {"factor": 3}}}, {"retry": {"backoff": {"maxSeconds": 9}}}],
                     {"retry": {"backoff": {"factor": 3, "maxSeconds": 9}}}, id="objects are merged at any depth"),
        pytest.param([{"llm": None}, {"llm": {"model": "a"}}], {"llm": {"model": "a"}}, id="an object over null"),
        pytest.param([{"pod": {"tolerations": [{"key": "a"}]}}, {"pod": {"tolerations": [{"key": "b"}]}}],
                     {"pod": {"tolerations": [{"key": "b"}]}}, id="other lists replace each other"),
        pytest.param([{"pod": {"resources": {"limits": {"memory": "1Gi"}}}}, {"pod": {"resources": {"requests": {}}}}],
                     {"pod": {"resources": {"requests": {}}}}, id="resources are one thing"),
        pytest.param([{"pod": {"affinity": {"nodeAffinity": {}}}}, {"pod": {"affinity": {"podAffinity": {}}}}],
                     {"pod": {"affinity": {"podAffinity": {}}}}, id="affinity is one thing"),
        pytest.param([{"env": [variable("A", "1"), variable("B", "1")]}, {"env": [variable("B", "2")]}],
                     {"env": [variable("A", "1"), variable("B", "2")]}, id="variables by name"),
        pytest.param([{"secrets": [key("K", "weak"), files("/a", "weak")]},
                      {"secrets": [key("K", "strong"), files("/b", "new")]}],
                     {"secrets": [files("/a", "weak"), key("K", "strong"), files("/b", "new")]},
                     id="secrets by variable and by folder"),
        pytest.param([{"env": [variable("A", "1")]}, {"env": []}], {"env": [variable("A", "1")]},
                     id="an empty list of variables takes none away"),
        pytest.param([{"pod": {"labels": {"env": "production", "secrets": "a"}}},
                      {"pod": {"labels": {"env": "test", "secrets": "b"}}}],
                     {"pod": {"labels": {"env": "test", "secrets": "b"}}}, id="a label may be called env"),
        pytest.param([{"pod": {"nodeSelector": {"env": "a"}}}, {"pod": {"nodeSelector": {"env": "b"}}}],
                     {"pod": {"nodeSelector": {"env": "b"}}}, id="a node selector may be called env"),
        pytest.param([{"default": True, "allowPython": False, "crewRef": {}, "definition": {}, "inputs": {}}], {},
                     id="what is no shared setting stays where it is"),
    ],
)  # fmt: skip
def test_layers_are_merged_weakest_first(layers: list[dict[str, Any]], want_merged: dict[str, Any]) -> None:
    assert merge(*layers) == want_merged


def test_merging_leaves_the_layers_as_they_are() -> None:
    weak, strong = {"llm": {"model": "a"}, "env": [variable("A", "1")]}, {"llm": {"model": "b"}, "env": []}
    merge(weak, strong)
    assert (weak["llm"], strong["llm"]) == ({"model": "a"}, {"model": "b"})


OLD = ProfileBuilder("old").spec(default=True).build()
NEW = ProfileBuilder("new").spec(default=True).created(NOON + timedelta(seconds=1)).build()
TWIN = ProfileBuilder("twin").spec(default=True).created(NOON + timedelta(seconds=1)).build()
PLAIN = ProfileBuilder("plain").created(NOON + timedelta(days=1)).build()


@pytest.mark.parametrize(
    ("named", "profiles", "want_name"),
    [
        pytest.param(None, [], None, id="none there, none needed"),
        pytest.param(None, [PLAIN], None, id="one that is no default is not taken"),
        pytest.param(None, [PLAIN, OLD], "old", id="the default"),
        pytest.param(None, [NEW, OLD, PLAIN], "new", id="the newest of several defaults"),
        pytest.param(None, [TWIN, NEW], "twin", id="of the same age the last by name"),
        pytest.param("plain", [PLAIN, NEW], "plain", id="a name is stronger than a default"),
        pytest.param("gone", [PLAIN, NEW], None, id="a name that nobody has"),
    ],
)
def test_the_profile_is_the_one_that_is_named_or_the_newest_default(
    named: str | None, profiles: list[dict[str, Any]], want_name: str | None
) -> None:
    found = choose_profile(named, {each["metadata"]["name"]: each for each in profiles})
    assert (found and found["metadata"]["name"]) == want_name


def secret(name: str) -> dict[str, Any]:
    return {"name": name, "secretKeyRef": {"name": "keys", "key": name}}


@pytest.mark.parametrize(
    ("weak", "strong", "want_env", "want_secrets"),
    [
        pytest.param({"secrets": [secret("A")]}, {"env": [variable("A", "1")]}, ["A"], [], id="a value"),
        pytest.param({"env": [variable("A", "1")]}, {"secrets": [secret("A")]}, [], ["A"], id="a Secret"),
        pytest.param({"secrets": [secret("A")]}, {"env": [variable("B", "1")]}, ["B"], ["A"], id="another"),
    ],
)
def test_the_stronger_layer_says_where_a_variable_comes_from(
    weak: dict[str, Any], strong: dict[str, Any], want_env: list[str], want_secrets: list[str]
) -> None:
    merged = merge(weak, strong)
    assert [item["name"] for item in merged.get("env", [])] == want_env
    assert [item["name"] for item in merged.get("secrets", [])] == want_secrets


def test_files_of_a_secret_stay_when_a_stronger_layer_sets_variables() -> None:
    files = {"mountPath": "/keys", "secretName": "keys"}
    assert merge({"secrets": [files]}, {"env": [variable("A", "1")]})["secrets"] == [files]
