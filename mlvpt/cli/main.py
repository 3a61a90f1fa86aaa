"""The command line: `mlvpt COMMAND ...`. options.py parses it, the module of a command obeys.

What the user can mend (InputError, a missing file, a full disk) is one line on stderr and exit
code 2; Ctrl-C is 130; a bug keeps its traceback. A command's module is imported when the command
is called, so that `mlvpt --help` is quick.
"""

import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from mlvpt.errors import InputError, Stopped

# What the user can mend about a file: it is missing, or one stands where a folder should, ...
MENDABLE = {
    errno.ENOENT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
}


class Command(NamedTuple):
    """Where a command lives: a function of its parsed options, in a module beside this one."""

    module: str
    function: str
    what: str


COMMANDS = {
    "groups": Command("data", "groups", "group labels by how they occur, print both views"),
    "check": Command("data", "check", "list every problem of a data set before training"),
    "train": Command("train", "train", "train a model, or continue a run"),
    "evaluate": Command("model", "evaluate", "evaluate a run on a split"),
    "predict": Command("model", "predict", "predict the labels of image files"),
    "export": Command("model", "export", "write a run's model as ONNX or torch.export"),
    "demo": Command("demo", "main", "train and compare ML-VPT and VPT-deep on the embedded data"),
    "ablate": Command("train", "ablate", "run a study: baselines, ablations, ...; resumable"),
    "scenes": Command("data", "scenes", "write the embedded data set to disk"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: words after `mlvpt`; None: those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from mlvpt import __version__

        print(f"mlvpt {__version__}")
        return 0
    try:
        if words[0] not in COMMANDS:
            raise InputError(_unknown(words[0]))
        from mlvpt.cli.options import parse

        command = COMMANDS[words[0]]
        options = parse(words, {name: each.what for name, each in COMMANDS.items()})
        module = import_module(f".{command.module}", __package__)
        return getattr(module, command.function)(options) or 0
    except InputError as error:
        return fail(str(error), 2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        return 0
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        return fail(f"{error.filename or 'a file'}: {error.strerror}.", 2)
    except Stopped as stop:
        return fail(str(stop), stop.exit_code)
    except KeyboardInterrupt:
        return fail("stopped by Ctrl-C.", 130)


def _overview() -> str:
    lines = [f"  {name:<10} {command.what}" for name, command in COMMANDS.items()]
    head = "usage: mlvpt COMMAND ...    (mlvpt COMMAND --help tells more)"
    return "\n".join([head, "", "commands:", *lines])


def _unknown(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "mlvpt --help lists the commands."
    return f"unknown command {word!r}: {hint}"


def fail(message: str, code: int) -> int:
    """Say what went wrong on stderr; gives `code` back."""
    print(f"mlvpt: {message}", file=sys.stderr)
    return code
