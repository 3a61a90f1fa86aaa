"""Exceptions with a message for the user: unusable input, and a run that ended early."""


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message is one sentence or two: it names the thing and the remedy. The command line
    prints it alone, without a traceback; any other exception is a bug and keeps its traceback.
    """

    def __init__(self, message: str = "") -> None:
        # a DataLoader hands on the error of a worker process as the text of its whole traceback
        kind = type(self).__name__
        if message.startswith(f"Caught {kind} in DataLoader worker"):
            message = message.rsplit(f"{kind}: ", 1)[-1].strip()
        super().__init__(message)


def first_line(error: BaseException) -> str:
    """The first line of what another library says, or the name of its exception."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Stopped(Exception):
    """The run ended before its time and kept what the message says.

    Attributes:
        exit_code: what the command line exits with.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
