"""A run that cannot start, and why. Data only."""

from crewrun_api.reasons import AcceptedReason
from crewrun_operator.definition import Problem

_SHOWN_PROBLEMS = 5


class Refused(Exception):
    """A run that cannot start until something is mended."""

    def __init__(self, reason: AcceptedReason, *problems: Problem) -> None:
        self.reason = reason
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown)
