"""The options of every command: the whole command line on one page.

`parse` reads the words once, with jsonargparse's subcommands, and checks their types. Commands with
settings (train, ablate) get those that were given as `options.settings`, {"optim.epochs": 2}, since
what is not given comes from a recipe or from the run to continue.
"""

import difflib
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from mlvpt.errors import InputError
from mlvpt.training.config import RENAMED, SECTIONS, flatten
from mlvpt.training.recipes import add_settings, check_keys, known_keys, readable


def parse(words: Sequence[str], what: dict[str, str]) -> Namespace:
    """Read the words after `mlvpt`.

    Args:
        words: the name of a command and its options.
        what: {command: what it does}.

    Returns:
        The options of that command.

    Raises:
        InputError: an unknown option or setting (the nearest known one is named), a value of the
            wrong type, or one that is missing.
        SystemExit: with code 0, after printing the help that was asked for.
    """
    words = [_renamed(word) for word in words]
    _refuse_empty(words)
    parser = _parser()
    commands = parser.add_subcommands(dest="command")
    for name, does in what.items():
        own = _parser(description=f"{does.capitalize()}.")
        if name == words[0]:  # nobody needs the options of the others
            asked, settings = own, name in WITH_SETTINGS
            OPTIONS[name](own)
            if settings:
                add_settings(own)
        commands.add_subcommand(name, own, help=does)
        own.prog = f"mlvpt {name}"
    _refuse_unknown(words[1:], asked, known_keys() if settings else [])
    try:
        given = parser.parse_args(words, defaults=False)[words[0]]
    except ArgumentError as error:
        raise InputError(readable(error).replace(f"{words[0]}.", "")) from None
    options = asked.get_defaults()
    found = {name: given.pop(name).as_dict() for name in SECTIONS if settings and name in given}
    options.update(given)
    options["settings"] = flatten(found)
    return options


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse values without a character, which a shell makes of a variable that is not set."""
    for before, word in zip(["", *words], words, strict=False):
        if not word.strip() or (word[:2] == "--" and word.endswith("=")):
            name = word.rstrip("=") if word.strip() else before
            raise InputError(f"the value after {name!r} is empty: give one, or drop the option.")


def _renamed(word: str) -> str:
    """The word with a setting's name of version 0.1 replaced by today's."""
    name, equals, value = word.partition("=")
    return f"--{RENAMED.get(name[2:], name[2:])}{equals}{value}" if word[:2] == "--" else word


def _parser(**options: Any) -> ArgumentParser:
    return ArgumentParser(exit_on_error=False, allow_abbrev=False, **options)


def _refuse_unknown(words: Sequence[str], parser: ArgumentParser, settings: list[str]) -> None:
    """Name the nearest option of `parser` to one that it does not know."""
    options = {option for action in parser._actions for option in action.option_strings}
    for word in words:
        option = word.split("=")[0]
        if not option.startswith("--") or option in options:
            continue
        own = options - {f"--{setting}" for setting in settings} - {f"--{s}" for s in SECTIONS}
        nearest = difflib.get_close_matches(option, own, n=1, cutoff=0.7)
        if settings and not nearest:
            check_keys([option[2:]])
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"{parser.prog} --help lists them."
        raise InputError(f"unknown option {option!r}: {hint}")


def _whole_number(least: int) -> Callable[[str], int]:
    """A type of option: a whole number of at least `least`."""

    def parse(word: str) -> int:
        word = str(word)
        if not word.isdecimal() or len(word) > 9 or int(word) < least:
            raise ArgumentTypeError(
                f"a whole number of {least} or more, of at most 9 digits, not {word!r:.40}"
            )
        return int(word)

    return parse


def _data(parser: ArgumentParser, default: str | None) -> None:
    add = parser.add_argument
    add("--data.name", dest="name", default=default, help="the data set")
    add("--data.root", dest="root", help="its folder, or the manifest's CSV file")
    add("--data.image_root", dest="image_root", help="folder of a manifest's images")
    add("--data.difficult", dest="difficult", default="ignore", choices=["ignore", "negative"])


def _model(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="run folder, saved model, or Hugging Face repository id")


def _loading(parser: ArgumentParser, batch_size: int) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-size", type=_whole_number(1), default=batch_size)
    parser.add_argument("--workers", type=_whole_number(0), default=0)


def groups(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", help="shipped label counts: voc2007, coco2014, clothing")
    source.add_argument("--counts", type=Path, help="CSV of a (K, K) count matrix, names as header")
    _data(parser, None)
    parser.add_argument("--n-groups", type=int, default=5)
    about_tau = "of the affinities: one, or one for CO and one for DC"
    parser.add_argument("--tau", "--root", type=float, nargs="+", default=[2.0], help=about_tau)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the groups as JSON")
    parser.add_argument("--plot", type=Path, help="folder for heatmaps and group graphs")


def check(parser: ArgumentParser) -> None:
    _data(parser, "scenes")


def train(parser: ArgumentParser) -> None:
    """Options of `mlvpt train`, besides the settings."""
    parser.add_argument("--recipe", help="a packaged recipe by name, or a YAML file")
    parser.add_argument("--out", help="run folder; default: runs/NAME_seedN")
    parser.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    parser.add_argument("--quiet", action="store_true", help="no bar and no lines")


def evaluate(parser: ArgumentParser) -> None:
    _model(parser)
    _loading(parser, 64)
    parser.add_argument("--split", default="test", help="train, val, test; of scenes, test_shifted")
    parser.add_argument("--data.root", dest="root", help="where the data lies now")
    parser.add_argument(
        "--pairs",
        help="pairs of classes that co-occurrence is held against: a JSON file, or the name of a "
        "recorded study; default: recorded ones of these classes, else the run's own on val",
    )
    parser.add_argument("--json", type=Path, help="write every metric with its record")


def predict(parser: ArgumentParser) -> None:
    _model(parser)
    _loading(parser, 32)
    parser.add_argument("images", nargs="+", help="image files, folders or globs")
    parser.add_argument(
        "--threshold", default="0.5", help="a number in [0, 1], or 'tuned' for the run's per class"
    )
    parser.add_argument("--json", type=Path, help="write labels and probabilities as JSON")
    parser.add_argument("--csv", type=Path, help="write labels and probabilities as CSV")
    parser.add_argument("--annotate", type=Path, help="folder for annotated pictures")


def export(parser: ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("--format", default="onnx", help="onnx, torch or web")
    parser.add_argument("--output", type=Path, help="default: model.onnx, .pt2 or .bin in the run")


def demo(parser: ArgumentParser) -> None:
    parser.add_argument("--out", default="demo", help="folder for figures and runs")
    parser.add_argument("--epochs", type=int, default=8, help="of both trainings")
    parser.add_argument("--seed", type=int, default=0)


def ablate(parser: ArgumentParser) -> None:
    """Options of `mlvpt ablate`, besides the settings, which change the base of the study."""
    add = parser.add_argument
    add(
        "name",
        help="pooling, lr_sweep, decay, baselines, ablations, groups, blocks, strength, or all",
    )
    add("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    add("--recipe", help="the run that is varied; default: scenes, 16 prompts")
    add("--out", help="folder of the records; default: results, or results/RECIPE")
    add("--only", help="methods or variants, with commas and no blanks between them; default: all")
    add("--workers", type=int, help="processes; default: one per GPU, or per core")
    add("--quiet", action="store_true", help="print the table alone")


def scenes(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=["export"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", default="voc", choices=["voc", "coco"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-images", type=int, help="images per split; default: all")


# a function for each command, of its name, that adds the options
COMMANDS = (groups, check, train, evaluate, predict, export, demo, ablate, scenes)
OPTIONS = {function.__name__: function for function in COMMANDS}
WITH_SETTINGS = ("train", "ablate")
