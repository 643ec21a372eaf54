"""Error answers in the shape of OpenAI's API. Purely computational."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .script import Fault


@dataclass(frozen=True)
class _Usual:
    type: str
    code: str | None
    message: str


# What OpenAI says for these; any other 4xx is an invalid_request_error and any other 5xx a server_error.
_USUAL = {
    401: _Usual("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: _Usual("invalid_request_error", None, "The key may not use this."),
    404: _Usual("invalid_request_error", "model_not_found", "The model does not exist, or not for you."),
    413: _Usual("invalid_request_error", None, "The request body is too large."),
    429: _Usual("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: _Usual("server_error", None, "The server had an error while processing your request."),
    503: _Usual("server_error", None, "The server is overloaded or not ready yet."),
}
_QUOTA = _Usual("insufficient_quota", "insufficient_quota", "You exceeded your current quota.")


@dataclass(eq=False)  # not frozen: Python writes tracebacks to exceptions
class ApiError(Exception):
    """An HTTP error with OpenAI's body; the server turns it into a response."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def api_error(
    status: int, message: str | None = None, *, code: str | None = None, param: str | None = None
) -> ApiError:
    """The usual error of a status, with another text or code where given."""
    usual = _QUOTA if code == _QUOTA.code else _USUAL.get(status) or _unusual(status)
    return ApiError(
        status,
        {
            "error": {
                "message": message or usual.message,
                "type": usual.type,
                "param": param,
                "code": code or usual.code,
            }
        },
    )


def bad_request(message: str, *, param: str | None = None) -> ApiError:
    return api_error(400, message, param=param)


def model_not_found(model: str) -> ApiError:
    return api_error(404, f"The model `{model}` does not exist or you have no access to it.", param="model")


def context_too_long(prompt_tokens: int) -> ApiError:
    """The 400 by which clients tell a prompt that does not fit from any other bad request."""
    limit = max(prompt_tokens - 1, 1)
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in "
        f"{prompt_tokens} tokens. Please reduce the length of the messages."
    )
    return api_error(400, message, code="context_length_exceeded", param="messages")


def error_of_fault(fault: Fault, key: str | None) -> ApiError:
    """The answer of a fault with a status."""
    if fault.status is None:
        raise ValueError("only a fault with a status is an error answer")
    error = api_error(fault.status, fault.message, code=fault.code)
    if fault.echo_key:
        error.body["error"]["message"] += f" Key: {key or 'none'}"
    if fault.retry_after_seconds is not None:
        # "7", not "7.0": the header's grammar knows whole seconds, and clients accept fractions as well.
        error.headers["Retry-After"] = f"{fault.retry_after_seconds:g}"
    return error


def _unusual(status: int) -> _Usual:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return _Usual(kind, None, f"The script answers with status {status}.")
