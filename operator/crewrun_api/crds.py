"""CustomResourceDefinitions from the models: structural schemas, CEL rules, printer columns.

Purely computational: models in, documents out. `python -m crewrun_api.generate` writes the files.
"""

import copy
from collections.abc import Iterable
from typing import Any

from crewrun_api import names
from crewrun_api.kinds import CREW_SOURCE_RULE, CrewSpec, Kind, PrinterColumn, ProfileSpec
from crewrun_api.model import Model
from crewrun_api.queue import BUDGET_RULE, QueueSpec, QueueStatus
from crewrun_api.run import (
    INPUT_SOURCE_RULE,
    RUN_SOURCE_RULE,
    SECRET_INPUTS_RULE,
    WEBHOOK_RULE,
    RunSpec,
    RunStatus,
)
from crewrun_api.settings import SECRET_RULE

Schema = dict[str, Any]

#: Typed fields that stay as they are once a run is accepted. Free-form ones cannot be compared by CEL;
#: for those the run's digest decides.
FROZEN_ON_ACCEPTANCE = (
    "attemptTimeoutSeconds",
    "cache",
    "crewRef",
    "llm",
    "maxRPM",
    "profile",
    "queue",
    "retry",
    "startDeadlineSeconds",
    "timeoutSeconds",
    "verbose",
)

_ONE_OF_RULES: dict[str, list[Schema]] = {
    "SecretSource": [
        {
            "rule": "(has(self.name) && has(self.secretKeyRef) && !has(self.mountPath)"
            " && !has(self.secretName) && !has(self.items))"
            " || (has(self.mountPath) && has(self.secretName) && !has(self.name) && !has(self.secretKeyRef))",
            "message": SECRET_RULE,
        }
    ],
    "CrewSpec": [
        {
            "rule": "[has(self.definition), has(self.configMap), has(self.entrypoint)]"
            ".filter(source, source).size() == 1",
            "message": CREW_SOURCE_RULE,
        }
    ],
    "RunSpec": [
        {"rule": "has(self.crewRef) != has(self.crew)", "message": RUN_SOURCE_RULE},
        {
            "rule": "!has(self.inputsFrom) || self.inputsFrom.all(one, !has(one.input)"
            " || self.inputsFrom.exists_one(other, has(other.input) && other.input == one.input))",
            "message": SECRET_INPUTS_RULE,
        },
    ],
    "InputSource": [
        {
            "rule": "has(self.configMapRef) ? !has(self.secretKeyRef) && !has(self.input)"
            " : has(self.secretKeyRef) && has(self.input)",
            "message": INPUT_SOURCE_RULE,
        }
    ],
    "QueueBudget": [{"rule": "has(self.maxCostUSD) || has(self.maxTokens)", "message": BUDGET_RULE}],
    "Webhook": [{"rule": "has(self.url) != has(self.urlFrom)", "message": WEBHOOK_RULE}],
}
_KEPT = (
    "description",
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "type",
)


def all_crds() -> dict[str, Schema]:
    """Every CRD by file name."""
    status = structural(RunStatus)
    status["default"] = {"observedGeneration": -1}
    documents = [
        crd(ProfileSpec, structural(ProfileSpec)),
        crd(CrewSpec, structural(CrewSpec)),
        crd(RunSpec, structural(RunSpec), status, FROZEN_ON_ACCEPTANCE),
        crd(QueueSpec, structural(QueueSpec), structural(QueueStatus)),
    ]
    return {f"{names.GROUP}_{document['spec']['names']['plural']}.yaml": document for document in documents}


def crd(kind: type[Kind], spec: Schema, status: Schema | None = None, frozen: Iterable[str] = ()) -> Schema:
    """The CRD of one kind."""
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    root: Schema = {"type": "object", "required": ["spec"], "properties": properties}
    version: Schema = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if status is not None:
        properties["status"] = status
        version["subresources"] = {"status": {}}
    if rules := [_frozen(field) for field in frozen]:
        root["x-kubernetes-validations"] = rules
    resource_names: Schema = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        # Not "crewrun": a category hides the singular of the same name from `kubectl get crewrun NAME`.
        "categories": ["crewai"],
    }
    if kind.short_names:
        resource_names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": resource_names,
            "versions": [version],
        },
    }


def structural(model: type[Model]) -> Schema:
    """The structural OpenAPI schema of a model: references inlined, no defaults, CEL where it is due."""
    document = model.model_json_schema(by_alias=True)
    schema = _convert({**document, "title": model.__name__}, document.get("$defs", {}))
    schema.setdefault("description", (model.__doc__ or "").strip())
    return schema


def _column(column: PrinterColumn) -> Schema:
    return column.model_dump(by_alias=True, exclude_defaults=True)


def _frozen(field: str) -> Schema:
    accepted = (
        "has(oldSelf.status) && has(oldSelf.status.conditions)"
        " && oldSelf.status.conditions.exists(c, c.type == 'Accepted' && c.status == 'True')"
    )
    return {
        # `self.spec.?field == oldSelf.spec.?field` says the same, at a cost that the API server does not allow
        "rule": f"!({accepted}) || (has(self.spec.{field}) == has(oldSelf.spec.{field})"
        f" && (!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field}))",
        "message": "cannot change once the run is accepted; make a new CrewRun instead",
        "fieldPath": f".spec.{field}",
    }


def _convert(schema: Schema, definitions: Schema) -> Schema:
    """One JSON Schema node of pydantic's as a structural one."""
    schema = _resolved(schema, definitions)
    result = {key: copy.deepcopy(schema[key]) for key in _KEPT if key in schema}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "default" in schema and isinstance(schema["default"], bool | int | float | str):
        default = schema["default"]
        text = str(default).lower() if isinstance(default, bool) else str(default)
        result["description"] = f"{result.get('description', '')} Default: {text}.".strip()
    if "items" in schema:
        result["items"] = _convert(schema["items"], definitions)
    if key := schema.get("x-map-key"):
        result["x-kubernetes-list-type"] = "map"
        result["x-kubernetes-list-map-keys"] = [key]
    if "properties" in schema:
        result["properties"] = {name: _convert(node, definitions) for name, node in schema["properties"].items()}
        if required := schema.get("required"):
            result["required"] = list(required)
        if rules := _ONE_OF_RULES.get(schema.get("title", "")):
            result["x-kubernetes-validations"] = list(rules)
    elif schema.get("type") == "object":
        values = schema.get("additionalProperties", True)
        if isinstance(values, dict):
            result["additionalProperties"] = _convert(values, definitions)
        else:
            result["x-kubernetes-preserve-unknown-fields"] = True
    return result


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The node with its reference followed and `T | None` read as an optional T."""
    outer = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in schema:
        inner = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return {**_resolved(inner, definitions), **outer, "title": inner.get("title", "")}
    if "anyOf" in schema:
        (inner,) = [option for option in schema["anyOf"] if option.get("type") != "null"]
        inner = _resolved(inner, definitions)
        return {**inner, **{k: v for k, v in outer.items() if k != "title"}}
    return schema
