"""Secret values never leave the process: whatever is written goes through a `Redactor` first.

Values are known by the names of their variables, by the files of mounted Secrets and by the addresses that carry
them, so this works wherever a value turns up: in an error that a provider echoes, in a traceback, in a model's answer.
Purely computational.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "[redacted]"
#: Shorter values would mask ordinary words and digits.
_SHORTEST = 6
_NAME = r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTHORIZATION|COOKIE)"
_SECRET_NAME = re.compile(rf"(^|[_-]){_NAME}$", re.IGNORECASE)
#: A setting with such a name in a file of settings.
_SETTING = re.compile(
    rf"^\s*[\"']?[\w.-]*{_NAME}[\"']?\s*[:=]\s*[\"']?(?P<value>[^\"'\s]+)", re.IGNORECASE | re.MULTILINE
)
_SCHEME = re.compile(r"^(Bearer|Basic|Token|ApiKey)\s+(?P<rest>\S+)$", re.IGNORECASE)
#: A file that is longer is not a key: each of its lines would be looked for in all that is written.
_LONGEST_FILE = 16 * 1024

#: Headers of the endpoint for traces: their values are keys, whatever the variables are called.
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")


def secret_values(environ: Mapping[str, str], names: Iterable[str]) -> set[str]:
    """The values of the variables `names` and of those whose own names say that they are secret; of all others the
    passwords in their addresses."""
    listed = set(names)
    found: set[str] = set()
    for name, value in environ.items():
        if name in listed or _SECRET_NAME.search(name):
            found |= {value, *_within(value)}
        else:
            found |= passwords(value)
    return found.union(*(_header_values(environ[name]) for name in _HEADERS if name in environ))


def _header_values(headers: str) -> set[str]:
    """From `name=value,name=value`, where values may be spelled as in a URL, and name a scheme: `Bearer ...`."""
    values = {value.strip() for _, equals, value in (each.partition("=") for each in headers.split(",")) if equals}
    values |= {unquote(value) for value in values}
    return values | {value.rpartition(" ")[2] for value in values}


def values_in(document: object) -> set[str]:
    """Secret values that somebody wrote into a definition, where they do not belong: `api_key: ...`."""
    found: set[str] = set()
    if isinstance(document, Mapping):
        for name, value in document.items():
            if isinstance(value, str) and _SECRET_NAME.search(str(name)):
                found |= {value, *_within(value)}
            found |= values_in(value)
    elif isinstance(document, list):
        for item in document:
            found |= values_in(item)
    elif isinstance(document, str):
        found |= passwords(document)
    return found


def values_in_file(text: str) -> set[str]:
    """The secret values in a file that a Secret holds: the whole of a short one, and what a longer one calls so."""
    named = {match["value"] for match in _SETTING.finditer(text)}
    with suppress(ValueError):
        named |= values_in(json.loads(text))
    return named | ({text, *_within(text)} if len(text) <= _LONGEST_FILE else set())


def passwords(text: str) -> set[str]:
    """The user's password in an address, and the values of its query that are called secret; as a header spells them
    too."""
    if "://" not in text or any(character.isspace() for character in text):
        return set()
    try:
        address = urlsplit(text)
        user, password = unquote(address.username or ""), unquote(address.password or "")
        asked = parse_qsl(address.query)
    except ValueError:
        return set()
    found = {value for name, value in asked if _SECRET_NAME.search(name)}
    if password:
        found |= {password, b64encode(f"{user}:{password}".encode()).decode()}
    return found


def _within(value: str) -> set[str]:
    """What a secret value carries: the password of an address, the key behind a scheme."""
    scheme = _SCHEME.match(value.strip())
    return passwords(value.strip()) | ({scheme["rest"]} if scheme else set())


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
