"""The one error that the command line turns into a message instead of a traceback."""


class DevClusterError(Exception):
    """Something a person has to act on: what failed, where, and what to do next."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(f"{what}\n  What to do: {hint}" if hint else what)
        self.what = what
        self.hint = hint
