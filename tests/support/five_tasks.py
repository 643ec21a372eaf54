"""A crew of five tasks, one after the other, and what the model's ledger says of each of them."""

from collections.abc import Iterable
from typing import Any

from tests.support.kube import Document, document

AGENT = {"role": "Writer", "goal": "Explain {topic}", "backstory": "Concise."}
ANSWER = {"text": "It is done."}
NAMES = ("t1", "t2", "t3", "t4", "t5")


def five_tasks(name: str = "five", *, fourth: Document | None = None, **spec: Any) -> Document:
    """Each prompt names its task; `fourth` is added to the fourth one."""
    tasks = [_task(task) | ((fourth or {}) if task == "t4" else {}) for task in NAMES]
    return document("Crew", name, {"definition": {"agents": {"writer": AGENT}, "tasks": tasks}, **spec})


def _task(name: str) -> Document:
    described = f"Do {name} about {{topic}}."
    return {"name": name, "description": described, "expected_output": "A line.", "agent": "writer"}


def rules(**replies: list[Document]) -> list[Document]:
    """A rule for each task: its replies in turn, or one answer for all its calls."""
    return [
        {"name": task, "match": {"user": f"Do {task} about"}, "replies": replies.get(task, [ANSWER])} for task in NAMES
    ]


def asked(calls: Iterable[Document]) -> list[str]:
    """The tasks that the model was asked for, in order."""
    return [call["rule"] for call in calls]


def billed(calls: Iterable[Document]) -> int:
    """The tokens of answers that were sent whole, or would have been to a client that left."""
    return sum(call["totalTokens"] for call in calls if call["status"] == 200 or call["clientDisconnected"])
