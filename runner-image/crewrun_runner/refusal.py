"""Why a run is refused before any LLM call."""

from crewrun_api.reasons import Reason


class Refusal(Exception):
    """The crew, its inputs or the files that carry them cannot be used; the text says what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
