"""LabelGroups, two partitions of the classes, and the checks of labels, counts and scores."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike

from mlvpt.errors import InputError, first_line
from mlvpt.files import read_json, write_json


@dataclass(frozen=True, eq=False, repr=False)
class LabelGroups:
    """The CO and the DC group of every class.

    Attributes:
        co: (K,) int64 in [0, n_groups): the correlative group of each class, read-only.
        dc: (K,) int64 in [0, n_groups): the discriminative group of each class, read-only.
        n_groups: G, groups per view; each has at least one class in each view.
        class_names: K different names, or None.

    Raises:
        InputError: a view is not a partition of the same K classes into exactly G groups, or the
            names do not fit.

    Example:
        >>> groups = LabelGroups(co=[0, 0, 1], dc=[0, 1, 1], n_groups=2)
        >>> groups
        LabelGroups of 3 classes in 2 groups per view
          CO 0  0, 1
          CO 1  2
          DC 0  0
          DC 1  1, 2
        >>> groups.co_members
        [[0, 1], [2]]
    """

    co: np.ndarray
    dc: np.ndarray
    n_groups: int
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        co = check_partition("co", self.co, self.n_groups)
        dc = check_partition("dc", self.dc, self.n_groups)
        if len(co) != len(dc):
            raise InputError(f"co groups {len(co)} classes, but dc groups {len(dc)}.")
        names = check_class_names(self.class_names, len(co))
        vars(self).update(co=co, dc=dc, n_groups=int(self.n_groups), class_names=names)

    @property
    def n_classes(self) -> int:
        """The number of classes, K."""
        return len(self.co)

    @property
    def co_members(self) -> list[list[int]]:
        """The class indices of each CO group."""
        return _members(self.co, self.n_groups)

    @property
    def dc_members(self) -> list[list[int]]:
        """The class indices of each DC group."""
        return _members(self.dc, self.n_groups)

    def to_dict(self) -> dict:
        """The groups as a dict of plain JSON types, which `from_dict` reads."""
        return {
            "n_groups": self.n_groups,
            "class_names": None if self.class_names is None else list(self.class_names),
            "co": self.co.tolist(),
            "dc": self.dc.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict) -> LabelGroups:
        """LabelGroups from a dict with n_groups, co, dc and, if known, class_names.

        Raises:
            InputError: an entry is missing or is not what it should be.
        """
        if not isinstance(content, dict):
            raise InputError("Label groups must be a mapping with n_groups, co and dc.")
        missing = {"n_groups", "co", "dc"} - content.keys()
        if missing:
            raise InputError(f"The label groups lack {', '.join(sorted(missing))}.")
        names = content.get("class_names")
        return cls(content["co"], content["dc"], content["n_groups"], names)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write the groups as JSON; the file appears whole or not at all."""
        write_json(path, self.to_dict())

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> LabelGroups:
        """LabelGroups from a file with the entries of `to_dict`; other entries are not read.

        Raises:
            InputError: the file is missing, incomplete, or holds no label groups.
        """
        content = read_json(path, "the label groups")  # often one's own: from_dict has the words
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def __eq__(self, other: object) -> bool:
        """Same partitions with the same numbers, and the same names."""
        if not isinstance(other, LabelGroups):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None

    def __reduce__(self) -> tuple:
        # Copies and unpickled objects pass the checks again: their arrays are read-only too.
        return LabelGroups, (self.co, self.dc, self.n_groups, self.class_names)

    def __repr__(self) -> str:
        names = self.class_names or tuple(str(index) for index in range(self.n_classes))
        lines = [f"LabelGroups of {self.n_classes} classes in {self.n_groups} groups per view"]
        for view, groups in (("CO", self.co_members), ("DC", self.dc_members)):
            for number, members in enumerate(groups):
                head = f"  {view} {number:<{len(str(self.n_groups - 1))}}  "
                text = ", ".join(names[index] for index in members)
                lines += textwrap.wrap(
                    text,
                    width=100,
                    initial_indent=head,
                    subsequent_indent=" " * len(head),
                    break_long_words=False,
                )
        return "\n".join(lines)


def random_groups(
    n_classes: int, n_groups: int, seed: int, class_names: Sequence[str] | None = None
) -> LabelGroups:
    """Two independent random partitions with group sizes that differ by at most one.

    The control for "does it matter which classes share a group?".

    Example:
        >>> groups = random_groups(10, 4, seed=0)
        >>> sorted(np.bincount(groups.co).tolist())
        [2, 2, 3, 3]
    """
    numbers = np.arange(n_classes) % check_n_groups(n_groups, n_classes)
    rng = np.random.default_rng(check_seed(seed))
    return LabelGroups(rng.permutation(numbers), rng.permutation(numbers), n_groups, class_names)


def single_group(n_classes: int, class_names: Sequence[str] | None = None) -> LabelGroups:
    """One group that holds every class, in both views: the method without grouping."""
    everyone = np.zeros(n_classes, dtype=np.int64)
    return LabelGroups(everyone, everyone, 1, class_names)


def number_groups(labels: np.ndarray, n_groups: int) -> np.ndarray:
    """The same groups numbered from the largest down, and the empty ones filled.

    Equal sizes are ordered by first member. Points that coincide leave k-means with fewer
    clusters than asked; then the last member of the largest group starts a new one.
    """
    members = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    while len(members) < n_groups:
        members.append([max(members, key=len).pop()])
    groups = np.empty(len(labels), dtype=np.int64)
    for number, group in enumerate(sorted(members, key=lambda group: (-len(group), group[0]))):
        groups[group] = number
    return groups


def check_class_names(names: Sequence[str] | None, n_classes: int) -> tuple[str, ...] | None:
    """The names as a tuple, if they are `n_classes` different strings; None stays None."""
    if names is None:
        return None
    iterable = isinstance(names, Iterable) and not isinstance(names, str)
    if not iterable or not all(isinstance(name, str) for name in names):
        raise InputError("Class names must be a list of strings, one for each class.")
    names = tuple(names)
    if len(names) != n_classes:
        raise InputError(f"{len(names)} class names were given for {n_classes} classes.")
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise InputError(f"Class names must differ, but {repeated[0]!r} is given more than once.")
    return names


def check_partition(name: str, groups: ArrayLike, n_groups: int | None = None) -> np.ndarray:
    """The group numbers as a read-only (K,) int64 array, if every group has a class.

    Args:
        name: what the message calls them.
        groups: (K,) whole numbers from 0 to G - 1.
        n_groups: G; None: one more than the largest number.

    Raises:
        InputError: not such a list, or a number that is missing or too large.
    """
    try:
        groups = np.array(groups)
    except ValueError:  # lists of different lengths
        groups = np.array(None)
    if groups.ndim != 1 or groups.size == 0 or groups.dtype.kind not in "iu":
        raise InputError(f"{name} must list the group number of each class, as whole numbers.")
    if n_groups is None:
        n_groups = max(1, int(groups.max()) + 1)
    if isinstance(n_groups, bool) or not isinstance(n_groups, (int, np.integer)) or n_groups < 1:
        raise InputError(f"n_groups must be a whole number of at least 1, but is {n_groups!r}.")
    used = np.unique(groups)
    if len(used) != n_groups or used[0] != 0 or used[-1] != n_groups - 1:
        raise InputError(
            f"{name} must use every group number from 0 to {n_groups - 1} and no other, but uses "
            f"{', '.join(map(str, used[:20]))}{', ...' if len(used) > 20 else ''}."
        )
    groups = groups.astype(np.int64)
    groups.setflags(write=False)
    return groups


def _members(groups: np.ndarray, n_groups: int) -> list[list[int]]:
    return [np.flatnonzero(groups == number).tolist() for number in range(n_groups)]


def check_targets(targets: ArrayLike) -> np.ndarray:
    """The labels as an (N, K) array, after refusing what is not a label matrix.

    Args:
        targets: (N, K) of 1 (present), 0 (absent) and -1 (unknown); bool, integer or float.

    Returns:
        The same values, not copied when they are an array already.

    Raises:
        InputError: wrong number of dimensions, no image, no class, NaN, or another value.
    """
    try:
        targets = np.asarray(targets)
    except ValueError as error:
        raise InputError(
            "Labels must be an (N, K) array, but their rows differ in length."
        ) from error
    except (TypeError, RuntimeError) as error:  # a tensor of bfloat16, on a GPU, or with gradient
        raise InputError(
            f"Labels must be an array of numbers on the CPU ({first_line(error)})."
        ) from error
    if targets.ndim != 2:
        raise InputError(
            f"Labels must be an (N, K) array of N images and K classes, but have shape "
            f"{targets.shape}."
        )
    if targets.size == 0:
        raise InputError(
            f"The dataset is empty: its labels have shape {targets.shape}. "
            "At least one image and one class are needed."
        )
    if targets.dtype.kind not in "biuf":
        raise InputError(f"Labels must be numbers, but have type {targets.dtype}.")
    for start in range(0, len(targets), 4096):  # the memory of wide matrices stays bounded
        part = targets[start : start + 4096]
        valid = (part == 0) | (part == 1) | (part == -1)
        if not valid.all():
            image, class_ = np.argwhere(~valid)[0]
            raise InputError(
                f"Labels must be 1, 0 or -1 (unknown), but image {start + image}, class {class_} "
                f"has {part[image, class_]}."
            )
    return targets


def check_scores(targets: ArrayLike, scores: ArrayLike, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The labels and scores as (N, K) arrays, if they have one shape and no score is NaN."""
    targets = check_targets(targets)
    try:
        scores = np.asarray(scores, dtype=np.float64)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"The {what} must be an (N, K) array of numbers ({first_line(error)})."
        ) from error
    if targets.shape != scores.shape:
        raise InputError(
            f"Labels {targets.shape} and {what} {scores.shape} must have the same shape (N, K)."
        )
    if np.isnan(scores).any():
        raise InputError(f"The {what} hold NaN: the model that made them has diverged.")
    return targets, scores


def check_probabilities(
    targets: ArrayLike, probabilities: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """The labels and probabilities as (N, K) arrays, see `check_scores`, if all lie in [0, 1]."""
    targets, probabilities = check_scores(targets, probabilities, "probabilities")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise InputError("Probabilities must lie in [0, 1]: apply a sigmoid to logits first.")
    return targets, probabilities


def check_threshold(threshold: float | ArrayLike, n_classes: int) -> np.ndarray:
    """The threshold as an array of shape () or (K,)."""
    threshold = np.asarray(threshold, dtype=np.float64)
    if threshold.shape not in ((), (n_classes,)) or np.isnan(threshold).any():
        raise InputError(
            f"The threshold must be one number or one for each of the {n_classes} classes, but "
            f"has shape {threshold.shape} or holds NaN."
        )
    return threshold


def check_counts(counts: ArrayLike) -> np.ndarray:
    """The co-occurrence counts as a (K, K) int64 array, if they can be counts of images.

    Raises:
        InputError: they are not square, symmetric, of whole numbers >= 0, or two classes share
            more images than one of them has.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise InputError(f"Counts must be a (K, K) matrix, but have shape {counts.shape}.")
    if counts.dtype.kind not in "biuf" or not np.isfinite(counts).all():
        raise InputError("Counts must be whole numbers, but hold NaN or something else.")
    if (counts < 0).any() or (counts.dtype.kind == "f" and (counts != np.floor(counts)).any()):
        raise InputError("Counts must be whole numbers >= 0.")
    if not np.array_equal(counts, counts.T):
        raise InputError("Counts must be symmetric: (i, j) and (j, i) count the same images.")
    if (counts > np.diag(counts)).any():
        i, j = np.argwhere(counts > np.diag(counts))[0]
        raise InputError(
            f"Classes {i} and {j} share {counts[i, j]} images, but class {j} has only "
            f"{counts[j, j]}: the diagonal must hold the images of each class."
        )
    return counts.astype(np.int64, copy=False)


def check_affinity(affinity: ArrayLike) -> np.ndarray:
    """A copy of the affinity as (K, K) float64 with diagonal 0, if symmetric and >= 0."""
    affinity = np.array(affinity, dtype=np.float64)
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1] or affinity.size == 0:
        raise InputError(f"An affinity must be a (K, K) matrix, but has shape {affinity.shape}.")
    if not np.isfinite(affinity).all() or (affinity < 0).any():
        raise InputError("An affinity must hold finite numbers >= 0.")
    if not np.array_equal(affinity, affinity.T):
        raise InputError("An affinity must be symmetric: pass (A + A.T) / 2.")
    np.fill_diagonal(affinity, 0.0)
    return affinity


def check_tau(tau: float) -> float:
    """The order of the root as a float, if it is a positive number."""
    if isinstance(tau, bool) or not isinstance(tau, Real) or not 0 < tau < np.inf:
        raise InputError(f"tau must be a positive number, but is {tau!r}.")
    return float(tau)


def check_taus(tau: float | Sequence[float]) -> tuple[float, float]:
    """The tau of the CO view and of the DC view, from one number for both or from a pair."""
    if np.ndim(tau) == 0:
        return check_tau(tau), check_tau(tau)
    if np.shape(tau) != (2,):
        raise InputError(f"tau must be a number, or a pair for CO and DC, but is {tau!r}.")
    return check_tau(tau[0]), check_tau(tau[1])


def check_n_groups(n_groups: int, n_classes: int) -> int:
    """The number of groups as an int, if `n_classes` classes can be split so."""
    if isinstance(n_groups, bool) or not isinstance(n_groups, Integral) or n_groups < 1:
        raise InputError(f"n_groups must be a whole number of at least 1, but is {n_groups!r}.")
    if n_groups > n_classes:
        raise InputError(
            f"{n_classes} classes cannot fill {n_groups} groups: choose n_groups <= {n_classes}."
        )
    return int(n_groups)


def check_seed(seed: int) -> int:
    """The seed as an int, if numpy and scikit-learn accept it."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise InputError(f"The seed must be a whole number from 0 to 2^32 - 1, but is {seed!r}.")
    return int(seed)
