"""Parts of a Pod in the chart's values.

What is most often written wrong is told by its path; the rest is left to the API server, which knows it better.
"""

from typing import Annotated, Any

from pydantic import WithJsonSchema

Document = dict[str, Any]


def _object(required: tuple[str, ...] = (), closed: bool = False, **properties: Document) -> WithJsonSchema:
    """An object with these properties; nothing else may stand in a closed one."""
    schema: Document = {"type": "object", "properties": properties}
    if required:
        schema["required"] = [*required]
    if closed:
        schema["additionalProperties"] = False
    return WithJsonSchema(schema)


_TEXT: Document = {"type": "string"}
_NAME: Document = {"type": "string", "minLength": 1}
_QUANTITIES: Document = {
    "type": "object",
    "additionalProperties": {
        "type": ["string", "number"],
        "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
        "minimum": 0,
    },
}

Resources = Annotated[
    Document, _object(closed=True, requests=_QUANTITIES, limits=_QUANTITIES, claims={"type": "array"})
]
EnvVar = Annotated[
    Document,
    _object(
        ("name",),
        closed=True,
        name={"type": "string", "pattern": "^[-._a-zA-Z][-._a-zA-Z0-9]*$"},
        value=_TEXT,
        valueFrom={"type": "object"},
    ),
]
Volume = Annotated[Document, _object(("name",), name=_NAME)]
VolumeMount = Annotated[Document, _object(("name", "mountPath"), name=_NAME, mountPath=_NAME)]
Toleration = Annotated[
    Document,
    _object(closed=True, key=_TEXT, operator=_TEXT, value=_TEXT, effect=_TEXT, tolerationSeconds={"type": "integer"}),
]
