"""The one exception for input that cannot be used."""


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message is one sentence or two: it names the thing and the remedy. The command line
    prints it alone, without a traceback; any other exception is a bug and keeps its traceback.
    """

    def __init__(self, message: str = "") -> None:
        # a DataLoader hands on the error of a worker process as the text of its whole traceback
        if message.startswith("Caught InputError in DataLoader worker"):
            message = message.rsplit("InputError: ", 1)[-1].strip()
        super().__init__(message)
