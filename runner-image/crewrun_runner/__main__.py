"""`python -m crewrun_runner`: one attempt of one run, from the mounted files to the outcome record.

With arguments there is no cluster: see `local`.
"""

from crewrun_runner import early

# isort: split
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from crewrun_api import names
from crewrun_api.reasons import ExitCode, Reason
from crewrun_runner import cgroup, exporting, failures
from crewrun_runner.ending import Ending
from crewrun_runner.failures import Failure, exit_code
from crewrun_runner.farewell import Limits
from crewrun_runner.files import texts
from crewrun_runner.ledger import Ledger
from crewrun_runner.log_events import least_level
from crewrun_runner.message import TerminationMessage
from crewrun_runner.payload import ENV_TERMINATION_LOG, Payload, execution, read
from crewrun_runner.post import Post
from crewrun_runner.progress import Progress
from crewrun_runner.record import End
from crewrun_runner.redaction import Redactor, passwords, secret_values, values_in, values_in_file
from crewrun_runner.refusal import Refusal
from crewrun_runner.reporter import Reporter
from crewrun_runner.reporting import destination
from crewrun_runner.streams import Log, Streams

#: crewai reads these when it is imported. The image sets them too; nothing a manifest says turns them on.
_CREWAI = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
    # Otherwise a definition could name any function as a callback.
    "CREWAI_DESERIALIZE_CALLBACKS": "",
    # Rich breaks lines to the terminal's width, and a secret torn in two is not found again.
    "COLUMNS": "200",
}


def main() -> int:
    """Only returns when there is no identity to write a record with."""
    os.environ.update(_CREWAI)
    alone = len(sys.argv) > 1
    try:
        if alone:
            from crewrun_runner import local

            me, given = local.begin(sys.argv[1:], os.environ)
        else:
            me, given = execution(os.environ), None
    except Refusal as refused:
        print(f"{refused.reason}: {refused.message}", file=sys.stderr)
        return exit_code(refused.reason)
    except (KeyError, ValueError) as error:
        print(f"not started by the operator: {type(error).__name__}: {error}", file=sys.stderr)
        return ExitCode.INTERNAL
    payload, refusal = None, None
    try:
        payload = given or read(os.environ)
    except Refusal as found:
        refusal = found
    redact = Redactor(_secrets(payload))
    least, unknown_level = least_level(os.environ)
    streams = Streams(redact, least, alone)
    log = streams.log(me)
    message = TerminationMessage(Path(os.environ.get(ENV_TERMINATION_LOG, names.TERMINATION_LOG)))
    progress = Progress(me, Ledger(), redact, message)
    limits = Limits.of(payload.spec) if payload else Limits()
    ending = Ending(me, streams, log, redact, progress, limits)
    if alone:
        ending.show = local.shown(streams.result)
    ending.watch_signals(early.SIGNALS)
    log("runner_started")
    if unknown_level:
        log("log_level_unknown", level="warning", message=unknown_level)
    cgroup.watch(log, progress.ledger.warn)
    progress.reporter = _reporter(progress, ending, redact, log)
    _pace(progress, log)
    if payload is None or refusal is not None:
        ending.end(End.failed(failures.loading(refusal or Refusal(Reason.RUNNER_CRASHED, "no payload"))))
    ending.watch_deadline(payload.spec.attempt_timeout_seconds)
    ending.traces = exporting.begin(os.environ, me, payload.spec.crew, redact, log, ending.start)
    try:
        from crewrun_runner import run  # imports crewai

        ending.end(run.attempt(payload, me, ending, redact, log))
    except BaseException as error:  # also when something in the process wants to exit
        traceback.print_exc()
        step = "HOME and /tmp must be writable" if isinstance(error, OSError) else "please report this with its log"
        text = f"the runner failed: {type(error).__name__}: {error}; {step}"
        ending.end(End.failed(Failure(Reason.RUNNER_CRASHED, text, type(error).__name__)))


def _reporter(progress: Progress, ending: Ending, redact: Redactor, log: Log) -> Reporter | None:
    """What tells the operator, if there is one that listens."""
    if not os.environ.get(names.ENV_REPORT_URL):
        return None
    try:
        url, folder = destination(os.environ)
    except ValueError as error:
        log("report_address_refused", level="warning", message=str(error))
        return None
    with suppress(OSError):
        redact.learn((folder / names.TOKEN_FILE).read_text().strip())
    return Reporter(Post(url, folder, redact.learn), progress.take, ending.obey, log, progress.ledger.pacer)


def _pace(progress: Progress, log: Log) -> None:
    """Requests wait for leases where they are handed out."""
    pacer = progress.ledger.pacer
    pacer.waits = lambda why: log("llm_call_waits", message=why)
    if progress.reporter is not None and os.environ.get(names.ENV_PACED):
        pacer.bind()


def _secrets(payload: Payload | None) -> set[str]:
    if payload is None:
        return secret_values(os.environ, ())
    spec = payload.spec
    named = [secret.name for secret in spec.secrets if secret.name]
    named += spec.secret_inputs.values()
    folders = [Path(secret.mount_path) for secret in spec.secrets if secret.mount_path]
    of_files = (values_in_file(text) for folder in folders for text in texts(folder))
    found = secret_values(os.environ, named) | values_in(spec.definition) | passwords(spec.llm.base_url or "")
    return found.union(*of_files)


if __name__ == "__main__":
    sys.exit(main())
