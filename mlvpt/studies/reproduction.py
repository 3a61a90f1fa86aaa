"""Which of the authors' released groups follow from the paper's description.

Two questions about each released partition. Does our spectral clustering return it? That depends
on the random restarts of k-means, ours and theirs. And is it an optimum of the objective that we
cluster by? That depends on nothing random: Lloyd's algorithm starts at the released partition,
and at an optimum no class moves.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from mlvpt.datasets.shipped import authors_groups, label_statistics
from mlvpt.errors import InputError
from mlvpt.grouping import (
    cooccurrence_affinity,
    exclusion_affinity,
    spectral_embedding,
    spectral_groups,
)
from mlvpt.labels import check_partition

RELEASED = (2, 3, 5, 8, 13)  # numbers of groups in the authors' release
AFFINITIES = {"co": cooccurrence_affinity, "dc": exclusion_affinity}


def lloyd_from(affinity: ArrayLike, partition: ArrayLike) -> np.ndarray:
    """Lloyd's algorithm (k-means without restarts) from a given partition of the classes.

    It runs on the embedding that `spectral_groups` clusters. A partition that does not move is a
    local optimum of the objective of spectral clustering with this affinity; whether random
    restarts find it is another question.

    Args:
        affinity: (K, K), symmetric, >= 0. The diagonal is not read.
        partition: (K,) group numbers, each from 0 to G - 1 in use.

    Returns:
        (K,) the partition it ends at, with the group numbers of the start; the start at an optimum.

    Raises:
        InputError: no affinity or no partition, or their sizes differ.

    Example:
        >>> two_pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0.0]])
        >>> lloyd_from(two_pairs, [0, 0, 1, 1])
        array([0, 0, 1, 1])
    """
    start = check_partition("partition", partition)
    n_groups = int(start.max()) + 1
    points = spectral_embedding(affinity, n_groups)
    if len(start) != len(points):
        raise InputError(f"The partition has {len(start)} classes, but the affinity {len(points)}.")
    means = np.stack([points[start == group].mean(axis=0) for group in range(n_groups)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # points may coincide, as in spectral_groups
        found = KMeans(n_groups, init=means, n_init=1, tol=0.0).fit(points)
    return found.labels_.astype(np.int64)


class Reproduced(NamedTuple):
    """One released partition against our clustering at one tau.

    Attributes:
        view: "co" or "dc".
        n_groups: G.
        tau: of the affinity.
        agreement: adjusted Rand index between our partition and the released one, 1 if they are
            the same to the last class.
        n_moved: classes that Lloyd's algorithm moves away from the released partition, none of an
            optimum of our objective.
    """

    view: str
    n_groups: int
    tau: float
    agreement: float
    n_moved: int


def reproduced_groups(
    name: str,
    taus: Sequence[float] = (2.0, 3.0),
    *,
    n_groups: Sequence[int] = RELEASED,
    n_init: int | None = None,
) -> list[Reproduced]:
    """The table of the authors' released groups against ours: found, and an optimum.

    Args:
        name: "voc2007" or "coco2014".
        taus: values of tau to try.
        n_groups: which of the released partitions to compare with.
        n_init: k-means restarts of `spectral_groups`.

    Returns:
        A row for each view, number of groups and tau, in this order.

    Raises:
        InputError: as `authors_groups` and `cooccurrence_affinity`.

    Example:
        >>> row = reproduced_groups("voc2007", taus=[2.0], n_groups=[2])[1]
        >>> row.view, row.agreement, row.n_moved
        ('dc', 1.0, 0)
    """
    counts = label_statistics(name).counts
    rows = []
    for view, affinity_of in AFFINITIES.items():
        for groups in n_groups:
            released = getattr(authors_groups(name, groups), view)
            for tau in taus:
                affinity = affinity_of(counts, tau)
                ours = spectral_groups(affinity, groups, n_init=n_init)
                agreement = float(adjusted_rand_score(released, ours))
                moved = int((lloyd_from(affinity, released) != released).sum())
                rows.append(Reproduced(view, groups, tau, agreement, moved))
    return rows
