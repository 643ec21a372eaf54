"""The policy as ValidatingAdmissionPolicies: CEL of the same shapes that the operator checks by.

Purely computational. The chart's template joins these parts, and gives the policy's lists as variables. A variable
lists the places of one shape, each with its path and value; CEL cannot make one list of a list of lists, so what is
within many places at once is checked where it stands.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from crewrun_api import names
from crewrun_api.allowed import PROFILE_ONLY
from crewrun_api.bounds import BOUNDS
from crewrun_api.kinds import CrewSpec, Kind, ProfileSpec
from crewrun_api.run import RunSpec
from crewrun_api.shapes import (
    MOST_ITEMS,
    ODD,
    TOO_MANY,
    Anything,
    Both,
    ByType,
    Each,
    Fields,
    Having,
    Leaf,
    Named,
    Shape,
    Wrapped,
)

Document = dict[str, Any]
_KINDS: tuple[type[Kind], ...] = (ProfileSpec, CrewSpec, RunSpec)
#: Fields by which a run that is there already is stopped, or goes on: no policy keeps anybody from that.
_FREE = ("cancel", "suspend")
_MANY = 1000


def all_admissions() -> dict[str, Document]:
    """The parts of each kind's policy, by file name."""
    return {f"{kind.plural}.yaml": _of(kind) for kind in _KINDS}


def _of(kind: type[Kind]) -> Document:
    parts: Document = {
        "resource": kind.plural,
        "apiGroup": names.GROUP,
        "apiVersion": names.VERSION,
        "matchConditions": [{"name": "says-something-new", "expression": _news(_FREE if kind is RunSpec else ())}],
        "variables": [
            # Without its type the API server takes an object for a map, which has keys to look at.
            {"name": "spec", "expression": "dyn(object.spec)"},
            # To go through a list with the place of each item: looking each of them up costs its square.
            {"name": "numbers", "expression": str(list(range(MOST_ITEMS)))},
        ],
        "bounds": _Compiler("bounds").compile(BOUNDS[kind.kind], "spec is outside the bounds of the policy"),
    }
    if kind.kind in PROFILE_ONLY:
        message = "spec says what only a CrewProfile may say (policy.secretSources is ProfileOnly)"
        parts["profileOnly"] = _Compiler("profileOnly").compile(PROFILE_ONLY[kind.kind], message)
    return parts


def _news(free: tuple[str, ...]) -> str:
    """Whether a write says anything new: garbage collection, labels and stops do not."""
    new, old = "dyn(object.spec)", "dyn(oldObject.spec)"
    either = f"key in {_literal(list(free))} || " if free else ""
    return (
        f"request.operation == 'CREATE' || !({new}.all(key, {either}key in {old} && {new}[key] == {old}[key])"
        f" && {old}.all(key, {either}key in {new}))"
    )


class _Compiler:
    """The variables of one shape, each shape within it once, and what they find."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._variables: dict[str, str] = {}
        self._found: list[str] = []
        self._leads: defaultdict[int, list[str]] = defaultdict(list)
        self._names: dict[int, str] = {}
        #: How many places there can be of a shape.
        self._count: defaultdict[int, int] = defaultdict(int)

    def compile(self, root: Shape, message: str) -> Document:
        self._lead(root, "[{'path': dyn('spec'), 'value': variables.spec}]", 1, "spec")
        for shape in _ordered(root):
            places = self._variable(self._names[id(shape)], " + ".join(self._leads[id(shape)]))
            self._visit(shape, places, self._count[id(shape)])
        refused = self._variable("refused", " + ".join(self._found))
        validation = {
            "expression": f"{refused}.size() == 0",
            "messageExpression": f"string({refused}[0])",
            "message": message,
            "reason": "Forbidden",
        }
        variables = [{"name": name, "expression": text} for name, text in self._variables.items()]
        return {"variables": variables, "validations": [validation]}

    def _visit(self, shape: Shape, places: str, count: int) -> None:
        match shape:
            case Leaf():
                self._found.append(f"{places}.map(at, !({_allows(shape, 'at.value')}), at.path + {_reason(shape)})")
            case Both():
                self._lead(shape.first, places, count, "first")
                self._lead(shape.second, places, count, "second")
            case ByType():
                self._by_type(shape, places, count)
            case Each() | Named():
                self._collection(shape, self._typed(places, "list" if isinstance(shape, Each) else "map"), count)
            case Having():
                maps, key = self._typed(places, "map"), _literal(shape.key)
                self._lead(shape.then, f"{maps}.filter(at, {key} in at.value)", count, "named")
                self._lead(shape.otherwise, f"{maps}.filter(at, !({key} in at.value))", count, "wrapped")
            case Wrapped():
                self._odd(places, "type(at.value) == map && at.value.size() == 1")
                only = "at.value.map(key, key)[0]"
                inner = _place(f"at.path + '.' + {only}", f"at.value[{only}]")
                wrapped = f"{places}.filter(at, type(at.value) == map && at.value.size() == 1).map(at, {inner})"
                self._lead(shape.inner, wrapped, count, "unwrapped")
            case Fields():
                self._fields(shape, self._typed(places, "map"), count)

    def _fields(self, shape: Fields, places: str, count: int) -> None:
        if shape.why:
            known = self._variable(f"{shape.title}_fields", _literal(dict.fromkeys(shape.fields, True)))
            self._each_field(places, f"!(field in {known})", _literal(f": {shape.why}"))
        by_leaf: defaultdict[Leaf, list[str]] = defaultdict(list)
        for field, inner in shape.fields.items():
            if isinstance(inner, Leaf):
                by_leaf[inner].append(field)
            elif not isinstance(inner, Anything):
                there = f"{places}.filter(at, {_literal(field)} in at.value && at.value.{field} != null)"
                place = _place(f"at.path + {_literal(f'.{field}')}", f"at.value.{field}")
                self._lead(inner, f"{there}.map(at, {place})", count, field)
        for leaf, fields in by_leaf.items():
            wrong = f"field in {_literal(fields)} && !({_allows(leaf, 'at.value[field]')})"
            self._each_field(places, wrong, _reason(leaf))

    def _each_field(self, places: str, wrong: str, reason: str) -> None:
        first = f"at.value.filter(field, {wrong})[0]"
        self._found.append(f"{places}.map(at, at.value.exists(field, {wrong}), at.path + '.' + {first} + {reason})")

    def _by_type(self, shape: ByType, places: str, count: int) -> None:
        given = {"string": shape.text, "list": shape.items, "map": shape.fields}
        known = [type_ for type_, inner in given.items() if inner is not None]
        self._odd(places, " || ".join(f"type(at.value) == {type_}" for type_ in known))
        for type_, inner in given.items():
            if inner is not None:
                self._lead(inner, f"{places}.filter(at, type(at.value) == {type_})", count, type_)

    def _collection(self, shape: Each | Named, places: str, count: int) -> None:
        inner = shape.items if isinstance(shape, Each) else shape.values
        if isinstance(shape, Each) and isinstance(inner, Leaf):
            self._told(places, f"at.value.size() <= {MOST_ITEMS}", TOO_MANY)
            wrong = f"!({_allows(inner, 'item')})"
            first = f"string(at.value.indexOf(at.value.filter(item, {wrong})[0]))"
            found = f"at.path + '[' + {first} + ']' + {_reason(inner)}"
            self._found.append(f"{places}.map(at, at.value.exists(item, {wrong}), {found})")
            return
        assert count < _MANY, "CEL cannot make one list of these"
        if isinstance(shape, Each):
            self._told(places, f"at.value.size() <= {MOST_ITEMS}", TOO_MANY)
        for index in range(count):
            at = f"{places}[{index}]"
            if isinstance(shape, Each):
                place = _place(f"{at}.path + '[' + string(number) + ']'", f"{at}.value[number]")
                there = f"number < {at}.value.size() && {at}.value[number] != null"
                items = f"variables.numbers.filter(number, {there}).map(number, {place})"
            else:
                place = _place(f"{at}.path + '.' + key", f"{at}.value[key]")
                items = f"{at}.value.filter(key, {at}.value[key] != null).map(key, {place})"
            self._lead(inner, f"({places}.size() > {index} ? {items} : [])", _MANY, "each")

    def _typed(self, places: str, type_: str) -> str:
        """Those places that hold what is wanted there."""
        self._odd(places, f"type(at.value) == {type_}")
        name = places.removeprefix(f"variables.{self._prefix}_")
        return self._variable(f"{name}_{type_}", f"{places}.filter(at, type(at.value) == {type_})")

    def _odd(self, places: str, wanted: str) -> None:
        self._told(places, wanted, ODD)

    def _told(self, places: str, wanted: str, why: str) -> None:
        self._found.append(f"{places}.map(at, !({wanted}), at.path + {_literal(f': {why}')})")

    def _lead(self, shape: Shape, places: str, count: int, name: str) -> None:
        if isinstance(shape, Anything):
            return
        self._leads[id(shape)].append(places)
        self._count[id(shape)] += count
        self._names.setdefault(id(shape), shape.title if isinstance(shape, Fields) else name)

    def _variable(self, name: str, expression: str) -> str:
        unique, number = f"{self._prefix}_{name}", 1
        while unique in self._variables:
            number += 1
            unique = f"{self._prefix}_{name}{number}"
        self._variables[unique] = expression
        return f"variables.{unique}"


def _ordered(root: Shape) -> list[Shape]:
    """Every shape below the root that has places of its own, each after all that lead to it."""
    seen: dict[int, Shape] = {}

    def visit(shape: Shape) -> None:
        if id(shape) not in seen:
            for inner in _inner(shape):
                visit(inner)
            seen[id(shape)] = shape

    visit(root)
    return list(reversed(seen.values()))


def _inner(shape: Shape) -> Iterator[Shape]:
    match shape:
        case Fields():
            yield from (inner for inner in shape.fields.values() if not isinstance(inner, Leaf | Anything))
        case Each() if not isinstance(shape.items, Leaf):
            yield shape.items
        case Named():
            yield shape.values
        case ByType():
            yield from (inner for inner in (shape.text, shape.items, shape.fields) if inner is not None)
        case Having():
            yield from (shape.then, shape.otherwise)
        case Wrapped():
            yield shape.inner
        case Both():
            yield from (shape.first, shape.second)


def _place(path: str, value: str) -> str:
    return f"{{'path': dyn({path}), 'value': {value}}}"


def _allows(leaf: Leaf, value: str) -> str:
    return f"{value} == null || {leaf.cel.replace('{value}', value)}"


def _reason(leaf: Leaf) -> str:
    return _literal(f": {leaf.why}") + (f" + variables.{leaf.listed}.join(', ')" if leaf.listed else "")


def _literal(value: Any) -> str:
    """Texts of the tables hold no quotes and no backslashes."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            assert not set("'\\\n") & set(value), value
            return f"'{value}'"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case dict():
            return "{" + ", ".join(f"{_literal(key)}: {_literal(each)}" for key, each in value.items()) + "}"
    raise TypeError(type(value))
