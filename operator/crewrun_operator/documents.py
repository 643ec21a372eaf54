"""JSON of the API server's, read and written fast, and in any case. Purely computational.

orjson refuses what is nested more deeply than it goes, and numbers of more than 64 bits; somebody's object may hold
both, and must not end the work on all others.
"""

import json
from typing import Any

import orjson

Document = dict[str, Any]


def decoded(data: bytes) -> Document:
    """The document that these bytes say."""
    try:
        document: Document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = json.loads(data)
    return document


def encoded(document: Any) -> bytes:
    """The bytes of a document."""
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        return json.dumps(document).encode()
