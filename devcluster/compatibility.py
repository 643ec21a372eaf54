"""Whether CRDs still take what they took: `python -m devcluster.compatibility`, against the last release.

A cluster has one set of CRDs for all, and manifests lie in other people's Git: what a release accepted, the next
one accepts too. Purely computational but for `main`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster.errors import DevClusterError
from devcluster.history import is_checkout, previous_release

Schema = Mapping[str, Any]
CRDS = "crds"
#: Changes that are wanted all the same, as they are told, with the reason. Emptied at each release.
ON_PURPOSE: dict[str, str] = {}

_UPPER = ("maximum", "maxItems", "maxLength", "maxProperties")
_LOWER = ("minimum", "minItems", "minLength", "minProperties")
#: Any new value may refuse something; to have none refuses nothing.
_JUDGED_BY_NOBODY = ("exclusiveMaximum", "exclusiveMinimum", "format", "multipleOf", "pattern", "uniqueItems")
#: These change what a manifest means, in both directions.
_FIXED = ("default", "nullable", "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type")
_NAMES = ("kind", "listKind", "plural", "singular")
_OPEN = "x-kubernetes-preserve-unknown-fields"


def incompatible(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """What the new CRDs refuse or mean otherwise; both by the CRD's name."""
    return [line for name in sorted(old) for line in _of_crd(name, old[name], new.get(name))]


def _of_crd(name: str, old: Schema, new: Schema | None) -> Iterator[str]:
    if new is None:
        yield f"{name}: the CRD is gone"
        return
    before, after = old["spec"], new["spec"]
    if before["scope"] != after["scope"]:
        yield f"{name}: scope {before['scope']} is now {after['scope']}"
    for key in _NAMES:
        if before["names"].get(key) != after["names"].get(key):
            yield f"{name}: names.{key} {before['names'].get(key)} is now {after['names'].get(key)}"
    for key in ("categories", "shortNames"):
        for lost in sorted({*before["names"].get(key, [])} - {*after["names"].get(key, [])}):
            yield f"{name}: names.{key} has no {lost} any more"
    versions = {version["name"]: version for version in after["versions"]}
    for version in before["versions"]:
        yield from _of_version(f"{name} {version['name']}", version, versions.get(version["name"]))


def _of_version(at: str, old: Schema, new: Schema | None) -> Iterator[str]:
    if new is None or (old["served"] and not new["served"]):
        yield f"{at}: the version is not served any more"
        return
    for lost in sorted(old.get("subresources", {}).keys() - new.get("subresources", {}).keys()):
        yield f"{at}: the subresource {lost} is gone"
    yield from _of_schema(at, "", old["schema"]["openAPIV3Schema"], new["schema"]["openAPIV3Schema"])


def _of_schema(crd: str, path: str, old: Schema, new: Schema) -> Iterator[str]:
    at = f"{crd}: {path or '(root)'}"
    for told in (*_values(old, new), *_fields(old, new), *_rules(old, new)):
        yield f"{at}: {told}"
    fields, others = old.get("properties", {}), new.get("properties", {})
    for name in sorted(fields.keys() & others.keys()):
        yield from _of_schema(crd, f"{path}.{name}".lstrip("."), fields[name], others[name])
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from _of_schema(crd, f"{path}{mark}", old[key], new[key])


def _values(old: Schema, new: Schema) -> Iterator[str]:
    """What a value may be."""
    if old.get("type") != new.get("type") and (old.get("type"), new.get("type")) != ("integer", "number"):
        yield f"type {old.get('type')} is now {new.get('type')}"
    if "enum" in new:
        lost = [value for value in old.get("enum", ["any other value"]) if value not in new["enum"]]
        yield from (f"{value} is not taken any more" for value in lost)
    for keys, sign in ((_UPPER, 1), (_LOWER, -1)):
        for key in keys:
            if key in new and (key not in old or (new[key] - old[key]) * sign < 0):
                yield f"{key} {old.get(key, 'none')} is now {new[key]}"
    for key in _JUDGED_BY_NOBODY:
        if new.get(key) not in (None, False, old.get(key)):
            yield f"{key} {old.get(key, 'none')} is now {new[key]}"
    for key in _FIXED:
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, 'none')} is now {new.get(key, 'none')}"


def _fields(old: Schema, new: Schema) -> Iterator[str]:
    """Which fields an object may and must have."""
    fields, others = old.get("properties", {}), new.get("properties", {})
    takes_all = bool(new.get(_OPEN) or new.get("additionalProperties"))
    if not takes_all:
        yield from (f"the field {name} is gone" for name in sorted(fields.keys() - others.keys()))
    if (old.get(_OPEN) or old.get("additionalProperties")) and not takes_all:
        yield "fields of any name are not taken any more"
    if old.get(_OPEN) and not new.get(_OPEN) and new.get("additionalProperties"):
        yield "values of any shape are not taken any more"
    for name in sorted({*new.get("required", [])} - {*old.get("required", [])}):
        if "default" not in others.get(name, {}):
            yield f"{name} is required now"


def _rules(old: Schema, new: Schema) -> Iterator[str]:
    """A rule that was not there may refuse what was taken, unless it is about a field that was not there either."""
    known = {rule["rule"] for rule in old.get("x-kubernetes-validations", [])}
    for rule in new.get("x-kubernetes-validations", []):
        about = rule.get("fieldPath", "").lstrip(".").partition(".")[0]
        about_new = about in new.get("properties", {}) and about not in old.get("properties", {})
        if rule["rule"] not in known and not about_new:
            yield f"a new rule: {rule.get('message', rule['rule'])}"


def documents(texts: Iterator[str]) -> dict[str, Schema]:
    """CRDs by their names."""
    loaded = [yaml.safe_load(text) for text in texts]
    return {document["metadata"]["name"]: document for document in loaded}


def main() -> int:
    root = Path.cwd()
    if not is_checkout(root):
        print("CRDs NOT COMPARED with the last release: this folder has no git history", file=sys.stderr)
        return 0
    try:
        release = previous_release(root)
        old = documents(release.text(path) for path in release.files(CRDS))
    except DevClusterError as error:
        print(f"the CRDs cannot be compared with the last release: {error}", file=sys.stderr)
        return 1
    new = documents(path.read_text() for path in sorted((root / CRDS).glob("*.yaml")))
    found = incompatible(old, new)
    for line in found:
        print(f"{line}{f' (on purpose: {ON_PURPOSE[line]})' if line in ON_PURPOSE else ''}", file=sys.stderr)
    unwanted = [line for line in found if line not in ON_PURPOSE]
    if unwanted:
        print(f"people's manifests of {release.version} would be refused, or mean something else", file=sys.stderr)
        return 1
    print(f"CRDs take what those of {release.version} took ({len(old)} kinds, commit {release.commit[:8]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
