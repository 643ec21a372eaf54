"""A few words for what documents may say. Purely computational: `refused` reads them as a check here, and `admission`
reads them as CEL for the API server, so that both say the same of the same document.

A value that is null says nothing, and is never refused. A value of another type than its shape wants is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crewrun_api.policy import Policy

ODD = "has another form than is allowed here"
#: What CEL can number at a cost that the API server allows; a Pod's annotations hold no crew of so many tasks.
MOST_ITEMS = 1000
TOO_MANY = f"has more than {MOST_ITEMS} items"


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever it says is allowed."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that must be allowed by itself. `cel` says the same as `allows`, of {value}."""

    allows: Callable[[Any, Policy], bool]
    cel: str
    why: str
    #: The list of the policy that the message goes on with, by its name in the policy's JSON.
    listed: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of these fields. Any other is refused and told why; or let pass, if there is no such word."""

    title: str
    fields: Mapping[str, Shape]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Each:
    """A list."""

    items: Shape


@dataclass(frozen=True, slots=True)
class Named:
    """An object whose keys are names that its author chose."""

    values: Shape


@dataclass(frozen=True, slots=True)
class ByType:
    """A value of several possible types; one without a shape is refused."""

    text: Shape | None = None
    items: Shape | None = None
    fields: Shape | None = None

    def of(self, value: object) -> Shape | None:
        match value:
            case str():
                return self.text
            case list():
                return self.items
            case Mapping():
                return self.fields
        return None


@dataclass(frozen=True, slots=True)
class Having:
    """An object that is of one shape if it has this key, and of another if it has not."""

    key: str
    then: Shape
    otherwise: Shape


@dataclass(frozen=True, slots=True)
class Wrapped:
    """An object of one key, which is a name, and what it names."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class Both:
    """A value that must be allowed by each of two shapes."""

    first: Shape
    second: Shape


Shape = Anything | Leaf | Fields | Each | Named | ByType | Having | Wrapped | Both
ANYTHING = Anything()


def refused(shape: Shape, value: Any, path: str, policy: Policy) -> Iterator[tuple[str, str]]:
    """Each place below `path` that is not allowed, and why."""
    if value is None:
        return
    match shape:
        case Leaf():
            if not shape.allows(value, policy):
                yield path, _reason(shape, policy)
        case Fields() if isinstance(value, Mapping):
            for key, inner in value.items():
                if key in shape.fields:
                    yield from refused(shape.fields[key], inner, f"{path}.{key}", policy)
                elif shape.why:
                    yield f"{path}.{key}", shape.why
        case Named() if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from refused(shape.values, inner, f"{path}.{key}", policy)
        case Wrapped() if isinstance(value, Mapping) and len(value) == 1:
            ((key, inner),) = value.items()
            yield from refused(shape.inner, inner, f"{path}.{key}", policy)
        case Having() if isinstance(value, Mapping):
            yield from refused(shape.then if shape.key in value else shape.otherwise, value, path, policy)
        case Each() if isinstance(value, list) and len(value) > MOST_ITEMS:
            yield path, TOO_MANY
        case Each() if isinstance(value, list):
            for index, inner in enumerate(value):
                yield from refused(shape.items, inner, f"{path}[{index}]", policy)
        case ByType() if inner_shape := shape.of(value):
            yield from refused(inner_shape, value, path, policy)
        case Both():
            yield from refused(shape.first, value, path, policy)
            yield from refused(shape.second, value, path, policy)
        case Anything():
            return
        case _:
            yield path, ODD


def _reason(leaf: Leaf, policy: Policy) -> str:
    if not leaf.listed:
        return leaf.why
    listed = policy.model_dump(by_alias=True)[leaf.listed]
    return leaf.why + ", ".join(listed)
