"""What a setting may be: its type, from the annotations of config.py, and its range.

Types and ranges have words, for the sentence that refuses a value.
"""

import dataclasses
import functools
import types
import typing
from typing import Any, Literal, NamedTuple

import numpy as np

from mlvpt.errors import InputError
from mlvpt.files import shortened

LARGEST = float(np.finfo(np.float32).max)  # what a float32 weight can be multiplied by
LARGEST_SIDE = 8192  # pixels; no Vision Transformer reads more
POSITIVE_OR_PAIR = "positive, or a pair of positive numbers"


class Range(NamedTuple):
    """Numbers from `low` to `high`; an open one leaves `low` out, and `high` where that is 1."""

    low: float
    high: float
    open: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range."""
        above = self.low < value if self.open else self.low <= value
        return above and (value < self.high if self.open and self.high == 1 else value <= self.high)

    def words(self, value: Any) -> str:
        """The range in words; the upper bound is named only where the value lies beyond it."""
        if self.high == 1:
            return "in (0, 1)" if self.open else "in [0, 1]"
        low = "positive" if self.open else f"{self.low:g} or more"
        too_large = isinstance(value, (int, float)) and value > self.high
        return f"{low} and at most {self.high:.10g}" if too_large else low


COUNT, OR_NONE = Range(1, 10**6), Range(0, 10**9)
POSITIVE, SHARE = Range(0, LARGEST, open=True), Range(0, 1, open=True)
RANGES = {
    "data.val_fraction": SHARE,
    "data.strength": Range(0, 1),
    "data.cache_gb": OR_NONE,
    "data.n_images": Range(1, 10**9),
    "model.n_groups": COUNT,
    "model.experts_per_group": Range(1, 10**4),
    "model.bottleneck": Range(1, 10**5),
    "model.n_prompts": Range(1, 10**5),
    "model.depth": Range(1, 10**4),
    **{
        f"loss.{name}": Range(0, LARGEST)
        for name in ("gamma_neg", "gamma_pos", "co", "dc", "co_gate", "dc_gate", "fused")
    },
    "loss.clip": Range(0, 1),
    "optim.lr": POSITIVE,
    "optim.weight_decay": Range(0, LARGEST),
    "optim.epochs": COUNT,
    "optim.batch_size": COUNT,
    "optim.accumulate": COUNT,
    "optim.warmup_fraction": SHARE,
    "optim.ema_left": SHARE,
    "optim.clip_grad": Range(0, LARGEST),
    "optim.seed": Range(0, 2**32 - 1),
    "optim.workers": Range(0, 1024),
    "optim.patience": OR_NONE,
    "optim.checkpoint_minutes": Range(0, 10**9, open=True),
    "optim.checkpoint_steps": OR_NONE,
}


def check_values(section: str, settings: Any) -> None:
    """Refuse settings of a wrong type, and numbers that are not finite or out of their range.

    Args:
        section: the name of the section.
        settings: the dataclass.

    Raises:
        InputError: names the setting, what it must be, and what it is.
    """
    for item in dataclasses.fields(settings):
        name, value = f"{section}.{item.name}", getattr(settings, item.name)
        kind, limits = kinds(type(settings))[item.name], RANGES.get(name)
        if name == "model.tau" and not _fits(value, kind):
            wanted = POSITIVE_OR_PAIR
        elif limits is not None and _is_number(value) and not limits.holds(value):
            wanted = limits.words(value)
        elif not _fits(value, kind):
            wanted = describe(kind)
        else:
            continue
        raise InputError(f"{name} must be {wanted}, got {shown(value)}.")


@functools.cache
def kinds(section: type) -> dict[str, Any]:
    """The annotation of each setting of a section."""
    return typing.get_type_hints(section)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; floats must be finite, text free of NUL."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_fits(each, inner[0]) for each in value)
    if kind is float:
        return _is_number(value) and abs(value) <= LARGEST
    if kind is int:
        return _is_number(value) and isinstance(value, int) and abs(value) < 2**63
    if kind is str:
        return isinstance(value, str) and value != "" and "\0" not in value
    return isinstance(value, kind)


def describe(kind: Any) -> str:
    """An annotation in words.

    Example:
        >>> describe(Literal["deep", "shallow"] | int)
        'one of deep, shallow, or a whole number'
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        *most, last = [describe(each) for each in inner]
        return f"{', '.join(most)}, or {last}" if "," in most[0] else f"{', '.join(most)} or {last}"
    if origin in (list, tuple):
        return f"a list of {NAMES[inner[0]].removeprefix('a ')}s".replace("texts", "text")
    return NAMES[kind]


NAMES = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}


def require(ok: bool, name: str, value: Any, wanted: str) -> None:
    if not ok:
        raise InputError(f"{name} must be {wanted}, got {shown(value)}.")


def shown(value: Any) -> str:
    """A value as YAML has it, on one line and cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else shortened(value)
