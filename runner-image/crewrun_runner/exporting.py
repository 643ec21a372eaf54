"""Whether an attempt is traced. OpenTelemetry is imported here, when there is somewhere to send spans to, or never."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from crewrun_api import names, traceparent
from crewrun_runner import traces
from crewrun_runner.payload import Execution
from crewrun_runner.streams import Log

if TYPE_CHECKING:
    from crewrun_runner.tracing import Tracing


def begin(
    environ: Mapping[str, str], me: Execution, crew: str, redact: Callable[[str], str], log: Log, start: datetime
) -> "Tracing | None":
    """The spans of this attempt, if they are wanted. No fault of theirs stops a run."""
    if not traces.wanted(environ):
        return None
    if why := traces.refused(environ):
        log("traces_refused", level="warning", message=why)
        return None
    given = environ.get(names.ENV_TRACEPARENT, "")
    parent = traceparent.parse(given)
    if given and parent is None:
        text = f"{names.ENV_TRACEPARENT} is not a W3C traceparent; mend the annotation {names.ANNOTATION_TRACEPARENT}"
        log("traceparent_ignored", level="warning", message=text)
    try:
        from crewrun_runner.tracing import Tracing

        return Tracing(me, crew, parent, redact, start)
    except Exception as error:
        text = f"{error}; check the variables OTEL_EXPORTER_OTLP_* of the profile"
        log("traces_refused", level="warning", error=type(error).__name__, message=text)
        return None
