"""YAML that anybody may have written, read as plain data. Purely computational.

A first pass over the events measures what the text would become, aliases followed, before anything is built of it:
a few lines of aliases can stand for gigabytes, and deep nesting exhausts whoever walks it. Only what JSON has a form
for comes out; a date is a text, as people mean it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

#: As in `validate`: deeper documents break the libraries that read them.
_MOST_LEVELS = 64
#: With every alias followed: so many characters, or a hundredth as many values. People's crews have hundreds of values,
#: and reading ten thousand takes a tenth of a second, for which everything else waits.
_MOST_EXPANDED = 1_000_000
_VALUE = 100
#: No number that a person writes is longer, and reading the digits of a huge one takes quadratic time.
_LONGEST_NUMBER = 64
_TAG = "tag:yaml.org,2002:"
_NOT_JSON = (f"{_TAG}timestamp", f"{_TAG}value")


class Unreadable(Exception):
    """Why a text cannot be read, and the line that it is in, from 1."""

    def __init__(self, line: int, message: str) -> None:
        self.line, self.message = line, message
        super().__init__(f"line {line}: {message}")


@dataclass(frozen=True, slots=True)
class Text:
    """The value of a text, and the lines of the keys of its two outer levels."""

    value: Any
    lines: dict[tuple[str, ...], int]


def read(text: str) -> Text:
    """Raises Unreadable for anything that is not one small document of plain data."""
    try:
        _measure(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Text(None, {})
        _check_keys(node)
        return Text(loader.construct_document(node), dict(_lines(node)))
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise Unreadable(line, f"the character {error.character!r} cannot stand in YAML: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(mark.line + 1 if mark else 1, words or "is not YAML") from None
    except (yaml.YAMLError, ValueError) as error:  # a number that Python cannot read, half a surrogate pair
        raise Unreadable(1, str(error)) from None


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun: how much stood before it, and how deep it goes."""

    anchor: str | None
    begun_at: int
    deepest: int


def _measure(text: str) -> None:
    """Refuse what would become too large or too deep; nothing is built, and nothing here recurses."""
    total = 0
    open_: list[_Open] = []
    anchors: dict[str, tuple[int, int]] = {}  # what each stands for: its weight, and its levels
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        levels = len(open_)
        if tag := getattr(event, "tag", None):
            raise Unreadable(line, f"the tag {tag.replace(_TAG, '!!')} is not supported; write the plain value")
        if isinstance(event, yaml.AliasEvent):
            if any(each.anchor == event.anchor for each in open_):
                raise Unreadable(line, f"the alias *{event.anchor} stands within what it stands for")
            if event.anchor not in anchors:
                raise Unreadable(line, f"the alias *{event.anchor} has no anchor before it")
            weight, deep = anchors[event.anchor]
            total, levels = total + weight, levels + deep
        elif isinstance(event, yaml.ScalarEvent):
            weight = _VALUE + len(event.value)
            total += weight
            if event.anchor:
                anchors[event.anchor] = (weight, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append(_Open(event.anchor, total, levels))
            total, levels = total + _VALUE, levels + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = open_.pop()
            levels = ended.deepest
            if ended.anchor:
                anchors[ended.anchor] = (total - ended.begun_at, levels - len(open_))
        for each in open_[-1:]:
            each.deepest = max(each.deepest, levels)
        if levels > _MOST_LEVELS:
            raise Unreadable(line, f"is nested more than {_MOST_LEVELS} levels deep")
        if total > _MOST_EXPANDED:
            raise Unreadable(line, "holds too much, with every alias followed: at most 10,000 values")


def _check_keys(root: yaml.Node) -> None:
    """A key is a text, and none stands twice in one mapping, where CrewAI would silently take the last."""
    left, seen = [root], set[int]()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            left += [value for _, value in node.value]
            _check_mapping(node)


def _check_mapping(node: yaml.MappingNode) -> None:
    known = set[str]()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag == f"{_TAG}merge":
            continue
        if key.tag != f"{_TAG}str" or not isinstance(key, yaml.ScalarNode):
            written = f"the key {key.value}" if isinstance(key, yaml.ScalarNode) else "a key"
            raise Unreadable(line, f"{written} is not a text; put it in quotes")
        if key.value in known:
            raise Unreadable(line, f"the key {key.value!r} stands twice")
        known.add(key.value)


def _lines(node: yaml.Node, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        path = (*above, str(key.value))
        yield path, key.start_mark.line + 1
        if not above:
            yield from _lines(value, path)


class _Loader(yaml.CSafeLoader):
    """Builds nothing but what JSON has a form for."""

    def number(self, node: yaml.ScalarNode) -> Any:
        read_it = self.construct_yaml_int if node.tag == f"{_TAG}int" else self.construct_yaml_float
        value = read_it(node) if len(node.value) <= _LONGEST_NUMBER else math.inf
        if not math.isfinite(value):
            raise Unreadable(node.start_mark.line + 1, f"the number {node.value[:20]} is out of range")
        return value

    def no_value(self, node: yaml.Node) -> Any:
        raise Unreadable(node.start_mark.line + 1, "<< is a key and no value; put it in quotes")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_JSON]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    f"{_TAG}null": _Loader.construct_yaml_null,
    f"{_TAG}bool": _Loader.construct_yaml_bool,
    f"{_TAG}int": _Loader.number,
    f"{_TAG}float": _Loader.number,
    f"{_TAG}str": _Loader.construct_yaml_str,
    f"{_TAG}seq": _Loader.construct_yaml_seq,
    f"{_TAG}map": _Loader.construct_yaml_map,
    f"{_TAG}merge": _Loader.no_value,
}
