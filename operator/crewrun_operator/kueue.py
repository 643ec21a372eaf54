"""What a run says to Kueue, which admits Jobs: its labels. Purely computational."""

from crewrun_api import names
from crewrun_operator.views import Manifest

_PASSED_ON = (names.LABEL_KUEUE_QUEUE, names.LABEL_KUEUE_PRIORITY)


def local_queue(run: Manifest) -> str | None:
    """The LocalQueue that the run's next Job waits in; None when Kueue is not asked. A run that began in a CrewQueue
    stays there."""
    if (run.get("status") or {}).get("queue"):
        return None
    return named(run)


def named(run: Manifest) -> str | None:
    """The LocalQueue that the run's label names."""
    return (run["metadata"].get("labels") or {}).get(names.LABEL_KUEUE_QUEUE) or None


def job_labels(run: Manifest) -> dict[str, str]:
    """The labels that Kueue reads on the Job of an attempt; none when it is not asked."""
    if local_queue(run) is None:
        return {}
    given = run["metadata"]["labels"]
    return {label: given[label] for label in _PASSED_ON if given.get(label)}
