"""Configurations as text: recipes in YAML, config.json of a run, options of the command line.

Types are checked by jsonargparse from the annotations in config.py, ranges by the dataclasses.
"""

import dataclasses
import difflib
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from mlvpt.errors import InputError
from mlvpt.files import write_json
from mlvpt.training.config import RENAMED, SECTIONS, TrainConfig, flatten, to_dict


def known_keys() -> list[str]:
    """Every setting by its dotted name, such as "optim.lr"."""
    return [
        f"{section}.{item.name}"
        for section, kind in SECTIONS.items()
        for item in dataclasses.fields(kind)
    ]


def check_keys(keys: list[str]) -> None:
    """Refuse unknown settings, naming the nearest known one.

    Raises:
        InputError: a key of `keys` (dotted names) is none of `known_keys()`.
    """
    known = known_keys()
    for key in keys:
        if key in known or key in RENAMED:
            continue
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        last = key.split(".")[-1]  # the right name in the wrong section, or without one
        nearest = [k for k in known if k.split(".")[-1] == last][:1] or nearest
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"the sections are {list(SECTIONS)}."
        raise InputError(f"unknown setting {key!r}: {hint}")


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """A configuration from a nested dict; what it does not name keeps its default.

    Args:
        values: {"optim": {"lr": 1e-3}, ...}.

    Returns:
        The configuration, with every value checked for its type and range.

    Raises:
        InputError: an unknown key (the nearest known one is named), or a value out of range.

    Example:
        >>> from_dict({"optim": {"epoch": 2}})
        Traceback (most recent call last):
        ...
        mlvpt.errors.InputError: unknown setting 'optim.epoch': did you mean 'optim.epochs'?
    """
    from jsonargparse import ArgumentError

    for section in SECTIONS:
        if section in values and not isinstance(values[section], dict):
            raise InputError(f"section {section!r} must hold settings, got {values[section]!r}.")
    check_keys(list(flatten(values)))
    try:
        parsed = make_parser().parse_object(values)
    except ArgumentError as error:
        raise InputError(readable(error)) from None
    return build(parsed)


def make_parser(**options: Any) -> Any:
    """A jsonargparse parser with one typed option per setting (`--optim.lr`)."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, **options)
    for section, kind in SECTIONS.items():
        parser.add_class_arguments(kind, section)
    for old, new in RENAMED.items():  # accepted, but not shown
        parser.add_argument(f"--{old}", type=_type_of(new) | None, default=None, help=SUPPRESS)
    return parser


def _type_of(setting: str) -> Any:
    section, name = setting.split(".")
    return next(item.type for item in dataclasses.fields(SECTIONS[section]) if item.name == name)


def build(parsed: Any) -> TrainConfig:
    """The configuration in a namespace that a parser of `make_parser` returned."""
    settings = {section: dict(vars(parsed[section])) for section in SECTIONS}
    for old, new in RENAMED.items():
        (section, old_name), new_name = old.split("."), new.split(".")[1]
        value = settings[section].pop(old_name, None)
        if value is not None:
            settings[section][new_name] = value
    return TrainConfig(**{name: SECTIONS[name](**values) for name, values in settings.items()})


def readable(error: Exception) -> str:
    """jsonargparse's message on one line."""
    return " ".join(str(error).split())


def save(config: TrainConfig, path: str | Path) -> None:
    """Write a configuration as JSON, whole or not at all."""
    write_json(path, to_dict(config))


def load(path: str | Path) -> TrainConfig:
    """Read a configuration from JSON or YAML.

    Raises:
        InputError: the file is missing, unreadable, or holds an unknown or unusable setting.
    """
    return from_dict(read_dict(path))


def read_dict(path: str | Path) -> dict[str, Any]:
    """The nested dict in a JSON or YAML file, not yet checked."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}: check the path.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid YAML or JSON ({readable(error)}).") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold the sections {list(SECTIONS)}, got {values!r:.60}.")
    return values


def recipe_names() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """The YAML file of a recipe.

    Args:
        name: of a packaged recipe, or a path to your own YAML file.

    Raises:
        InputError: there is none; names the nearest.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json"):
        return path
    packaged = Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
    if packaged.is_file():
        return packaged
    nearest = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0.3)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "give a path ending in .yaml."
    raise InputError(f"there is no recipe {name!r}: {hint}")
