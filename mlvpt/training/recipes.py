"""Configurations as text: recipes in YAML, config.json of a run, options of the command line.

Types are checked by jsonargparse from the annotations in config.py, ranges by the dataclasses.
"""

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from mlvpt.errors import InputError
from mlvpt.files import read_json, shortened
from mlvpt.training.config import RENAMED, SECTIONS, TrainConfig, flatten
from mlvpt.training.ranges import describe, kinds, shown


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

    check_names(values)
    for section in SECTIONS:
        if section in values and not isinstance(values[section], dict):
            raise InputError(f"section {section!r} must hold settings, got {values[section]!r}.")
    for key, value in flatten(values).items():
        check_keys([key])
        if isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{key} is {shortened(value)}, and no setting is that large.")
    values = _renamed(values)
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise InputError(f"{readable(error)}.") from None
    except (OverflowError, RecursionError):
        raise InputError("a setting is too large or too deep: give plain values.") from None
    parts = {section: kind(**vars(parsed[section])) for section, kind in SECTIONS.items()}
    return TrainConfig(**parts)


def check_names(values: dict[Any, Any]) -> None:
    """Refuse names of sections and settings that are no text, as YAML allows."""
    inner = [name for section in values.values() if isinstance(section, dict) for name in section]
    wrong = [name for name in [*values, *inner] if not isinstance(name, str)]
    if wrong:
        raise InputError(f"unknown setting {shown(wrong[0])}: names of settings are text.")


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """The settings with the names of version 0.1 replaced by today's."""
    values = {section: dict(settings) for section, settings in values.items()}
    for old, new in RENAMED.items():
        (section, old_name), name = old.split("."), new.split(".")[1]
        if old_name in values.get(section, {}):
            values[section].setdefault(name, values[section].pop(old_name))
    return values


def change(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """The configuration with settings replaced, by dotted name.

    Raises:
        InputError: unknown setting, or a value out of range.

    Example:
        >>> change(TrainConfig(), {"optim.epochs": 2, "model.gate": "mean"}).optim.epochs
        2
    """
    check_keys(list(changes))
    for key, value in changes.items():
        section, name = key.split(".")
        part = dataclasses.replace(getattr(config, section), **{name: value})
        config = dataclasses.replace(config, **{section: part})
    return config


def add_settings(parser: Any) -> None:
    """Add one typed option per setting (`--optim.lr`) to a jsonargparse parser."""
    for section, kind in SECTIONS.items():
        parser.add_class_arguments(kind, section)


def readable(error: Exception) -> str:
    """jsonargparse's message on one line, in words that name no type of Python.

    Example:
        >>> readable(ValueError('Parser key "loss.kind": Expected a X. Got value: al'))
        'loss.kind: choose one of asl, bce, focal; got al'
    """
    text = " ".join(str(error).split())
    pattern = r'Parser key "(\S+?)"(?: element \d+)?: (.*?)(?:Got|Given) value: ?(.*)$'
    found = re.match(pattern, text)
    if found is None:
        return re.sub(r'Parser key "(\S+?)":', r"\1:", text)
    value = found[3].replace("None", "null") or "nothing"
    value = value if len(value) < 60 else f"{value[:56]} ..."
    section, name = ["", *found[1].split(".")][-2:]  # a command's name may stand before them
    if section in SECTIONS and name in kinds(SECTIONS[section]):
        words, name = describe(kinds(SECTIONS[section])[name]), f"{section}.{name}"
    else:
        words, name = "a number" if "float" in found[2] else "a whole number", f"--{name}"
    verb = "choose" if words.startswith("one of") else "expected"
    return f"{name}: {verb} {words}; got {value}"


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
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}: check the path.")
    if path.suffix == ".json":
        values = read_json(path, "the configuration")
    else:
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} is no valid YAML or JSON ({reason}).") from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path} must hold the sections {list(SECTIONS)}, got {shortened(values)}."
        )
    try:
        check_names(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return values


class _Loader(yaml.SafeLoader):
    """yaml's safe loader, without keys that stand twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twins = [key for key in keys if keys.count(key) > 1]
        if twins:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"the key {twins[0]!r} stands twice below line {line}")
        return super().construct_mapping(node, deep)


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
