"""`python -m crewrun_runner.webhook`: tell a webhook of a run's end, from the mounted file to the record.

It exits 0 when the receiver has it and 1 when it will not; its Job makes it again when it ends in any other way.
crewai is not imported.
"""

from crewrun_runner import early

# isort: split
import http.client
import os
import signal
import ssl
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from crewrun_api import names
from crewrun_api.reasons import WebhookOutcome
from crewrun_api.webhook import Delivery, WebhookRecord
from crewrun_runner.delivery import Reply, Request, Unsendable, deliver, failed, request_of, said, secrets_of
from crewrun_runner.exceptions import cause_words, seconds_until
from crewrun_runner.message import TerminationMessage
from crewrun_runner.payload import ENV_SPEC_DIR, ENV_TERMINATION_LOG, execution
from crewrun_runner.redaction import Redactor, secret_values
from crewrun_runner.streams import Log, Streams

TIMEOUT_SECONDS = 10.0
_TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """0 or 1, as the Job's failure policy has it."""
    threading.Thread(target=_end_on_signal, name="signals", daemon=True).start()
    redact = Redactor(secret_values(os.environ, ()))
    streams = Streams(redact)
    try:
        record = _told(streams, redact)
    except Unsendable as error:
        print(f"nothing is sent: {error}", file=sys.stderr)
        record = failed(str(error))
    except Exception as error:
        traceback.print_exc()
        record = failed(f"the runner failed: {type(error).__name__}; see its log")
    record = record.model_copy(update={"message": redact(record.message)})
    data = record.model_dump_json(by_alias=True, exclude_none=True).encode()
    try:
        TerminationMessage(Path(os.environ.get(ENV_TERMINATION_LOG, names.TERMINATION_LOG))).write(data)
    except OSError as error:
        print(f"the record cannot be written: {error}", file=sys.stderr)
    streams.finish()
    return 0 if record.outcome is WebhookOutcome.DELIVERED else 1


def post(request: Request) -> Reply:
    """One try. A thread of its own keeps the time: a receiver that sends its answer byte by byte, or a name server
    that is silent, must not take longer than it may."""
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(_post(request)), name="post", daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    return replies[0] if replies else _not_answered()


def _not_answered() -> Reply:
    return Reply(error=f"not answered within {TIMEOUT_SECONDS:g} s")


def _told(streams: Streams, redact: Redactor) -> WebhookRecord:
    try:
        log = streams.log(execution(os.environ))
        delivery = _delivery()
    except (KeyError, OSError, ValueError) as error:
        raise Unsendable(f"not started by the operator: {type(error).__name__}") from error
    for value in secrets_of(delivery, os.environ):
        redact.learn(value)
    request = request_of(delivery, os.environ)
    return deliver(lambda: post(request), time.sleep, lambda tries, reply: _log(log, tries, reply))


def _delivery() -> Delivery:
    """The mounted file, if it is the one that the operator sent: whoever may edit a Pod's annotations must not have
    the values of headers sent elsewhere."""
    document = (Path(os.environ.get(ENV_SPEC_DIR, names.SPEC_DIR)) / names.WEBHOOK_FILE).read_bytes()
    if names.payload_digest(document, b"") != os.environ.get(names.ENV_DIGEST):
        raise Unsendable("the mounted file is not what the operator sent: somebody edited the Pod's annotations")
    return Delivery.model_validate_json(document)


def _log(log: Log, tries: int, reply: Reply) -> None:
    delivered = 200 <= reply.status < 300
    event, level = ("webhook_delivered", "info") if delivered else ("webhook_refused", "warning")
    log(event, level=level, status=reply.status or None, requests=tries, message=said(reply))


def _post(request: Request) -> Reply:
    """Proxy variables are not looked at, and a redirect is an answer like any other."""
    connection: http.client.HTTPConnection | None = None
    try:
        connection = _connection(request)
        connection.putrequest("POST", request.target, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value.encode())
        connection.putheader("Content-Length", str(len(request.body)))
        connection.putheader("Connection", "close")
        connection.endheaders(request.body)
        response = connection.getresponse()
        wait = response.headers.get("Retry-After")
        return Reply(response.status, seconds_until(wait, datetime.now(UTC)) if wait else None)
    except TimeoutError:
        return _not_answered()
    except Exception as error:
        return Reply(error=f"{type(error).__name__}: {cause_words(error)}")
    finally:
        if connection is not None:
            connection.close()


def _connection(request: Request) -> http.client.HTTPConnection:
    if not request.secure:
        return http.client.HTTPConnection(request.host, request.port, timeout=TIMEOUT_SECONDS)
    import certifi

    context = ssl.create_default_context()  # what the image's system trusts, and where that is nothing, this
    context.load_verify_locations(certifi.where())
    return http.client.HTTPSConnection(request.host, request.port, timeout=TIMEOUT_SECONDS, context=context)


def _end_on_signal() -> None:
    """At once and without a record: its Job makes it again, unless the Job itself is to end."""
    signal.sigwait(early.SIGNALS)
    os._exit(_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
