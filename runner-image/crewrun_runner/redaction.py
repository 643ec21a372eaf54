"""Secret values never leave the process: whatever is written goes through a `Redactor` first.

Values are known by the names of their variables, so this works wherever a value turns up: in an error that a
provider echoes, in a traceback, in a model's answer. Purely computational.
"""

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

MASK = "[redacted]"
#: Shorter values would mask ordinary words and digits.
_SHORTEST = 6
_SECRET_NAME = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)


def secret_values(environ: Mapping[str, str], names: Iterable[str]) -> set[str]:
    """The values of the variables `names` and of those whose own names say that they are secret."""
    listed = set(names)
    return {value for name, value in environ.items() if name in listed or _SECRET_NAME.search(name)}


def values_in(document: object) -> set[str]:
    """Secret values that somebody wrote into a definition, where they do not belong: `api_key: ...`."""
    found: set[str] = set()
    if isinstance(document, Mapping):
        for name, value in document.items():
            if isinstance(value, str) and _SECRET_NAME.search(str(name)):
                found.add(value)
            found |= values_in(value)
    elif isinstance(document, list):
        for item in document:
            found |= values_in(item)
    return found


class Redactor:
    """Replaces secret values in text, also as JSON or a URL would spell them. What comes out can be encoded:
    a model may answer with half a surrogate pair, and no record may be lost to that."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = set(values)
        self._pattern = _pattern(self._values)

    def learn(self, value: str) -> None:
        """One more, which was not known at the start."""
        if value not in self._values:
            self._values = {*self._values, value}
            self._pattern = _pattern(self._values)

    def __call__(self, text: str) -> str:
        text = text.encode(errors="replace").decode()
        pattern = self._pattern
        return pattern.sub(MASK, text) if pattern else text


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    spellings: set[str] = set()
    for value in values:
        for part in {value, value.strip(), *value.splitlines()}:
            if len(part) >= _SHORTEST:
                spellings |= {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
                spellings |= {quote(part), quote(part, safe="")}
    longest_first = sorted(spellings, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
