"""Configurations as text: recipes in YAML, config.json of a run, options of the command line.

Types are checked by jsonargparse from the annotations in config.py, ranges by the dataclasses.
"""

import dataclasses
import difflib
import re
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
    from jsonargparse import ArgumentError, ArgumentParser

    for section in SECTIONS:
        if section in values and not isinstance(values[section], dict):
            raise InputError(f"section {section!r} must hold settings, got {values[section]!r}.")
    check_keys(list(flatten(values)))
    values = _renamed(values)
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise InputError(readable(error)) from None
    parts = {section: kind(**vars(parsed[section])) for section, kind in SECTIONS.items()}
    return TrainConfig(**parts)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """The settings with the names of version 0.1 replaced by today's."""
    values = {section: dict(settings) for section, settings in values.items()}
    for old, new in RENAMED.items():
        (section, old_name), name = old.split("."), new.split(".")[1]
        if old_name in values.get(section, {}):
            values[section].setdefault(name, values[section].pop(old_name))
    return values


def add_settings(parser: Any) -> None:
    """Add one typed option per setting (`--optim.lr`) to a jsonargparse parser."""
    for section, kind in SECTIONS.items():
        parser.add_class_arguments(kind, section)


TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def readable(error: Exception) -> str:
    """jsonargparse's message on one line, with words in place of Python's types.

    Example:
        >>> readable(ValueError("a: Expected a Literal['b', 'c']. Got value: d"))
        'a: choose one of b, c; got d'
    """
    text = " ".join(str(error).split())
    text = re.sub(r'Parser key "(\S+?)":', r"\1:", text)
    text = re.sub(
        r"Does not validate against any of .*?Subtypes: \[(.*)\] Errors:.*? Given value: ",
        lambda m: f"Expected one of {m[1].replace('NoneType', 'null')}. Got value: ",
        text,
    )
    text = re.sub(r"<class '(\w+)'>", lambda m: TYPES.get(m[1], m[1]), text)
    choices = r"(?:Expected (?:an? |one of )?)?(?:typing\.)?Literal\[(.*?)\]"
    text = re.sub(choices, lambda m: "choose one of " + m[1].replace("'", ""), text)
    text = text.replace("Expected a ", "expected ")
    return text.replace("Expected ", "expected ").replace(". Got value: ", "; got ")


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
    """The nested dict in a JSON or YAML file, not yet checked.

    A file whose key "base" names a recipe holds only what differs from it.

    Raises:
        InputError: the file or its base cannot be read, or the base has a base itself.
    """
    values = _read(Path(path))
    if "base" not in values:
        return values
    name = str(values.pop("base"))
    base = _read(recipe_path(name))
    if "base" in base:
        raise InputError(f"the base {name!r} of {path} has a base itself: give one without.")
    for section, settings in values.items():
        both = isinstance(settings, dict) and isinstance(base.get(section), dict)
        base[section] = {**base[section], **settings} if both else settings
    return base


def _read(path: Path) -> dict[str, Any]:
    import yaml

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
