"""The edge to OpenTelemetry: operations become spans, and an exporter sends those that have ended, in batches.

Imported only when there is an endpoint. The provider is the runner's own: the global one stays what it is, and
CrewAI's telemetry stays off.
"""

import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import IdGenerator, RandomIdGenerator, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from crewrun_api.outcome import OutcomeRecord
from crewrun_api.reasons import Outcome
from crewrun_api.traceparent import Traceparent
from crewrun_runner import traces
from crewrun_runner.operations import Kind, Operation, Result
from crewrun_runner.payload import Execution

_DISABLED = "OTEL_SDK_DISABLED"


class Tracing:
    """The spans of one attempt. Safe to share by threads."""

    def __init__(
        self, me: Execution, crew: str, parent: Traceparent | None, redact: Callable[[str], str], start: datetime
    ) -> None:
        self._redact = redact
        self._lock = threading.Lock()
        self._open: dict[str, Span] = {}
        self._sent = threading.Event()
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        ids = _Ids(traces.trace_id(me.run_uid), traces.run_span_id(me.run_uid))
        self._tracer = _provider(me, ids, self._processor).get_tracer("crewrun_runner")
        self._run = self._run_span(me, crew, parent, ids, start)
        self._attempt = self._start("attempt", self._run, start, {"crewrun.attempt": me.attempt, "crewrun.crew": crew})

    def started(self, operation: Operation) -> None:
        kind = SpanKind.CLIENT if operation.kind is Kind.LLM_CALL else SpanKind.INTERNAL
        with self._lock:
            around = self._open.get(operation.parent or "", self._attempt)
            name, attributes = traces.name(operation), traces.attributes(operation)
            self._open[operation.scope] = self._start(name, around, operation.start, attributes, kind)

    def ended(self, operation: Operation, result: Result) -> None:
        with self._lock:
            span = self._open.pop(operation.scope, None)
        if span is not None:
            self._end(span, result.end, traces.outcome(result))

    def finish(self, record: OutcomeRecord, now: datetime) -> None:
        """Close what is open and begin to send all that has not been sent. Returns at once."""
        attributes: dict[str, traces.Value] = {"crewrun.outcome": record.outcome, "crewrun.reason": record.reason}
        if record.outcome is Outcome.FAILED:
            attributes["error.type"] = record.reason
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for span in reversed(left):
            self._end(span, now, {})
        self._end(self._attempt, now, attributes)
        # Whether the run goes on after anything but a success is the operator's to decide.
        self._end(self._run, now, attributes if record.outcome is Outcome.SUCCEEDED else {})
        threading.Thread(target=self._send, name="traces", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether all has been sent, or has failed to be, within that time."""
        return self._sent.wait(seconds)

    def _send(self) -> None:
        self._processor.force_flush()
        self._sent.set()

    def _run_span(self, me: Execution, crew: str, parent: Traceparent | None, ids: "_Ids", start: datetime) -> Span:
        """The span of the run. Its first attempt writes it; later ones only refer to it."""
        flags = TraceFlags(TraceFlags.SAMPLED if parent is None or parent.sampled else TraceFlags.DEFAULT)
        if me.attempt > 1:
            trace_id = parent.trace_id if parent else ids.trace
            ids.used = True
            return NonRecordingSpan(SpanContext(trace_id, ids.run, is_remote=True, trace_flags=flags))
        around: Span = trace.INVALID_SPAN
        if parent is not None:
            around = NonRecordingSpan(SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags))
        return self._start(f"run {crew}", around, start, {"crewrun.crew": crew})

    def _start(
        self,
        name: str,
        around: Span,
        start: datetime,
        attributes: Mapping[str, traces.Value],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        return self._tracer.start_span(
            self._redact(name),
            context=trace.set_span_in_context(around, Context()),
            kind=kind,
            attributes=self._clean(attributes),
            start_time=_nanoseconds(start),
        )

    def _end(self, span: Span, end: datetime, attributes: Mapping[str, traces.Value]) -> None:
        span.set_attributes(self._clean(attributes))
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(end))

    def _clean(self, attributes: Mapping[str, traces.Value]) -> dict[str, traces.Value]:
        """Names come from people and from models, and answers' ids from providers."""
        clean = dict(attributes)
        for key, value in attributes.items():
            if isinstance(value, str):
                clean[key] = self._redact(value)
            elif isinstance(value, list):
                clean[key] = [self._redact(each) for each in value]
        return clean


class _Ids(IdGenerator):  # type: ignore[misc]  # the development environment does not have it
    """Random ones, but for the trace and the first span, which is the run's."""

    def __init__(self, trace: int, run: int) -> None:
        self.trace, self.run = trace, run
        self.used = False
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        if self.used:
            return int(self._random.generate_span_id())
        self.used = True
        return self.run


def _provider(me: Execution, ids: _Ids, processor: BatchSpanProcessor) -> TracerProvider:
    """A provider reads OTEL_SDK_DISABLED when it is made. That variable keeps CrewAI's telemetry off, and so it is
    away for no longer than that."""
    disabled = os.environ.pop(_DISABLED, None)
    try:
        resource = Resource.create(traces.resource(me))
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # what the SDK calls a nameless one
            resource = resource.merge(Resource({SERVICE_NAME: traces.SERVICE_NAME}))
        provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    finally:
        if disabled is not None:
            os.environ[_DISABLED] = disabled
    provider.add_span_processor(processor)
    return provider


def _nanoseconds(moment: datetime) -> int:
    """A float holds no nanoseconds of today."""
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
