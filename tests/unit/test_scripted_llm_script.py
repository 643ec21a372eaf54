"""The script of the scripted LLM: reading, matching, turns, tokens. No HTTP."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from crewrun_testing import Ledger, Match, Reply, Script, ScriptError, Tokens, count_tokens, read_script
from crewrun_testing.matching import Player, matches
from crewrun_testing.replies import build_answer, prompt_tokens
from crewrun_testing.requests import ChatRequest, bearer_key, parse_chat

EXAMPLE = Path(__file__).parents[2] / "examples/research/llm-script.yaml"
HASH = "0" * 64


def request(user: str = "List facts about kopf.", *, system: str = "You are a Writer.", **more: Any) -> ChatRequest:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return parse_chat(json.dumps({"model": "gpt-4o", "messages": messages} | more).encode())


@pytest.mark.parametrize(
    ("match", "want"),
    [
        ({}, True),
        ({"user": "facts"}, True),
        ({"user": "Writer"}, False),
        ({"system": "Writer"}, True),
        ({"anyMessage": "^You are"}, True),
        ({"anyMessage": "risks"}, False),
        ({"model": "gpt-4o"}, True),
        ({"model": "gpt-4"}, False),
        ({"model": "gpt-4.*"}, True),
        ({"headers": {"X-Run": "^a$"}}, True),
        ({"headers": {"x-run": "b"}}, False),
        ({"headers": {"x-other": "."}}, False),
        ({"authorizationSha256": HASH}, True),
        ({"authorizationSha256": "1" * 64}, False),
        ({"user": "facts", "system": "Researcher"}, False),
    ],
)
def test_a_match_holds_when_all_its_conditions_hold(match: dict[str, Any], want: bool) -> None:
    assert matches(Match.model_validate(match), request(), {"x-run": "a"}, HASH) is want


def test_the_last_message_of_a_role_is_matched_also_when_its_content_is_parts() -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}]},
        {"role": "tool", "content": "third"},
    ]
    chat = parse_chat(json.dumps({"model": "m", "messages": messages}).encode())
    assert chat.last_text("user") == "second"
    assert chat.last_text("system") == ""


@pytest.mark.parametrize(
    ("replies", "want"),
    [
        ([{"text": "a"}], "aaaa"),
        ([{"text": "a"}, {"text": "b"}], "abbb"),
        ([{"text": "a", "repeat": 2}, {"text": "b"}], "aabb"),
        ([{"text": "a"}, {"text": "b", "repeat": 2}], "abb-"),
        ([{"text": "a", "repeat": 1}], "a---"),
    ],
)
def test_replies_are_used_in_turn_and_a_rule_that_is_used_up_lets_others_answer(
    replies: list[dict[str, Any]], want: str
) -> None:
    player = Player(read_script({"rules": [{"replies": replies}], "default": {"text": "-"}}))
    assert "".join(player.next(request(), {}, None).reply.text or "" for _ in want) == want
    player.rewind()
    assert player.next(request(), {}, None).reply.text == want[0]


def test_the_first_rule_that_matches_answers_and_each_counts_for_itself() -> None:
    rules: list[dict[str, Any]] = [
        {"name": "risks", "match": {"user": "risks"}, "replies": [{"text": "r"}]},
        {"match": {"user": "facts"}, "replies": [{"text": "1"}, {"text": "2"}]},
        {"name": "all", "replies": [{"text": "x"}]},
    ]
    player = Player(read_script({"rules": rules}))
    users = ["facts", "risks", "facts", "other"]
    turns = [player.next(request(user), {}, None) for user in users]
    want = [("rules[1]", "1"), ("risks", "r"), ("rules[1]", "2"), ("all", "x")]
    assert [(turn.rule, turn.reply.text) for turn in turns] == want


@pytest.mark.parametrize(
    ("text", "want_problem"),
    [
        ("", "(top): Input should be a valid dictionary"),
        ("rules: [", "is neither YAML nor JSON"),
        ("rule: []", "rule: Extra inputs are not permitted"),
        ("rules: [{replies: []}]", "rules[0].replies: List should have at least 1 item"),
        ("rules: [{replies: [{}]}]", "rules[0].replies[0]: give exactly one of text, toolCalls and fault"),
        ("rules: [{replies: [{text: a, fault: timeout}]}]", "rules[0].replies[0]: give exactly one of"),
        ("rules: [{replies: [{text: a, delay_seconds: 1}]}]", "rules[0].replies[0].delay_seconds: Extra"),
        ("rules: [{match: {user: '('}, replies: [{text: a}]}]", "rules[0].match.user: is not a regular expr"),
        ("rules: [{match: {authorizationSha256: k}, replies: [{text: a}]}]", "authorizationSha256: String"),
        ("default: {fault: oops}", "default.fault.kind: Input should be 'timeout', 'connectionReset'"),
        ("default: {fault: {status: 200}}", "default.fault.status: Input should be greater than or equal"),
        ("default: {fault: {status: 500, kind: html}}", "default.fault: give either status or kind"),
        ("default: {fault: {kind: html, code: x}}", "default.fault: code, message, retryAfterSeconds and"),
        ("default: {fault: {kind: html, seconds: 1}}", "default.fault: seconds belongs to the kind timeout"),
        ("default: {text: a, repeat: 2}", "default.repeat: the default reply has no end"),
        (
            "rules: [{name: a, replies: [{text: a}]}, {name: a, replies: [{text: a}]}]",
            "(top): rule names must be used once: a",
        ),
    ],
)
def test_a_wrong_script_is_refused_with_the_path(text: str, want_problem: str) -> None:
    with pytest.raises(ScriptError) as caught:
        read_script(text)
    assert want_problem in str(caught.value)


def test_a_script_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"nowhere\.yaml: the script cannot be used:\n  cannot be read: No such file"):
        read_script(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("reply", "max_tokens", "want"),
    [
        ({"text": "x" * 9}, None, (3, 0, "stop", 9)),
        ({"text": "x" * 9}, 3, (3, 0, "stop", 9)),
        ({"text": "x" * 9}, 2, (2, 0, "length", 8)),
        ({"text": "x", "usage": {"completionTokens": 70}}, None, (70, 0, "stop", 1)),
        ({"text": "x", "usage": {"promptTokens": 10, "cachedTokens": 99}}, None, (1, 10, "stop", 1)),
    ],
)
def test_tokens_come_from_the_answer_unless_the_script_says_them(
    reply: dict[str, Any], max_tokens: int | None, want: tuple[int, int, str, int]
) -> None:
    answer = build_answer(Reply.model_validate(reply), request(max_tokens=max_tokens), 1)
    got = (answer.tokens.completion, answer.tokens.cached, answer.finish_reason, len(answer.text or ""))
    assert got == want
    assert answer.tokens.total == answer.tokens.prompt + answer.tokens.completion


def test_prompt_tokens_follow_the_rule() -> None:
    assert [count_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    assert prompt_tokens(request("12345678", system="")) == (4 + 2) + (4 + 0)


def test_equal_messages_have_equal_fingerprints() -> None:
    assert request("a").messages_sha256 == request("a", max_tokens=5).messages_sha256
    assert request("a").messages_sha256 != request("b").messages_sha256


@pytest.mark.parametrize(
    ("header", "want"),
    [("Bearer k", "k"), ("bearer  k ", "k"), ("Basic k", None), ("Bearer ", None), ("", None)],
)
def test_the_key_is_taken_from_a_bearer_header_alone(header: str, want: str | None) -> None:
    assert bearer_key(header) == want


def test_a_full_ledger_forgets_the_oldest_and_keeps_the_sums() -> None:
    ticks = itertools.count(1_700_000_000.0)
    ledger = Ledger(lambda: next(ticks), keep=2)
    for _ in range(5):
        entry = ledger.begin("/v1/chat/completions", None)
        entry.status = 200
        ledger.finish(entry)
    body = ledger.body()
    assert [entry["sequence"] for entry in body["entries"]] == [4, 5]
    assert (body["dropped"], body["totals"]["succeededCalls"]) == (3, 5)
    assert body["entries"][0]["startTime"] == "2023-11-14T22:13:26.000Z"


def test_a_client_that_leaves_during_the_last_bytes_is_taken_out_of_the_successes() -> None:
    ledger = Ledger(lambda: 0.0)
    entry = ledger.begin("/v1/chat/completions", None)
    entry.status, entry.tokens = 200, Tokens(prompt=3, completion=4)
    ledger.finish(entry)
    ledger.finish(entry)
    want = (1, 0, 1, 7, 0, 0)
    for _ in range(2):
        totals = ledger.totals
        counts = (totals.calls, totals.in_flight, totals.succeeded_calls, totals.total_tokens)
        assert (*counts, totals.disconnected_calls, totals.disconnected_tokens) == want
        ledger.finish(entry, disconnected=True)
        want = (1, 0, 0, 0, 1, 7)


def test_a_request_that_ends_after_a_reset_is_not_counted() -> None:
    ledger = Ledger(lambda: 0.0)
    entry = ledger.begin("/v1/chat/completions", None)
    ledger.reset()
    entry.status = 200
    ledger.finish(entry)
    assert (ledger.totals.calls, ledger.totals.in_flight, ledger.totals.succeeded_calls) == (0, 0, 0)


def test_the_demos_script_answers_its_three_tasks() -> None:
    player = Player(read_script(EXAMPLE))
    asked = {
        "facts": (
            "You are Senior researcher. Careful.",
            "\nCurrent Task: List facts about Kubernetes operators.",
        ),
        "risks": (
            "You are Senior researcher. Careful.",
            "\nCurrent Task: List risks of Kubernetes operators.",
        ),
        "report": ("You are Writer. Concise.", "\nCurrent Task: Write a report."),
    }
    turns = {name: player.next(request(user, system=system), {}, None) for name, (system, user) in asked.items()}
    assert {name: turn.rule for name, turn in turns.items()} == {name: name for name in asked}
    assert [turn.reply.delay_seconds for turn in turns.values()] == [1.5, 2.5, 1.5]
    assert all(len((turn.reply.text or "").encode()) < 3000 for turn in turns.values())
    assert isinstance(player.script, Script)
