"""Label grouping: from training labels to CO and DC groups.

With C = Y^T Y the co-occurrence counts of the labels Y in {0, 1}^(N x K),

    S_ij = P(j | i) = C_ij / C_ii          conditional probability, diagonal 0
    R    = S^(1 / root)                    element by element
    M+   = (R + R^T) / 2                   CO affinity: classes seen together
    M-   = 1 - M+, diagonal 0              DC affinity: classes that exclude each other

and spectral clustering of M+ and M- gives the CO and the DC groups. The root (tau in the paper)
tempers the skew of the counts; 2 reproduces the groups that the authors released for VOC2007.

The embedding and the k-means are those of scikit-learn's `SpectralClustering` (a test compares
them). Three things differ, so that a partition can be trusted to the last class:

- The eigenvectors come from a dense solver. Label graphs are small, and an iterative solver may
  miss one of several equal eigenvalues, which is what a disconnected graph has.
- Classes are put in an order of their own before anything random happens, so that listing them
  in another order cannot change who is grouped with whom.
- k-means restarts 500 times. With 100, one seed in three misses the best partition of VOC2007
  into 8 CO groups.

Source: Ma, Xu, Xie, Wang, Sun, Zhao, "Correlative and Discriminative Label Grouping for
Multi-Label Visual Prompt Tuning", CVPR 2025, section 3.2. The authors' code for this step was not
released; tests/test_grouping.py says which of their groups this one reproduces.

References:
    [1] Ng, Jordan, Weiss, "On spectral clustering: analysis and an algorithm", NIPS 2001.
    [2] von Luxburg, "A tutorial on spectral clustering", Statistics and Computing 17, 2007.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups, check_class_names, check_targets

CHUNK = 65536  # images counted at a time: a sum of so many ones is exact in float32


def cooccurrence_counts(targets: ArrayLike) -> np.ndarray:
    """How many images show both class i and class j.

    Args:
        targets: (N, K) of 1, 0 and -1; -1 (unknown) counts as absent.

    Returns:
        (K, K) int64, symmetric; the diagonal holds the number of images with the class.

    Raises:
        InputError: `targets` is no label matrix, see `check_targets`.

    Example:
        >>> cooccurrence_counts([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
        array([[2, 1, 0],
               [1, 1, 0],
               [0, 0, 1]])
    """
    targets = check_targets(targets)
    counts = np.zeros((targets.shape[1], targets.shape[1]), dtype=np.int64)
    for start in range(0, len(targets), CHUNK):
        present = (targets[start : start + CHUNK] == 1).astype(np.float32)
        counts += (present.T @ present).astype(np.int64)
    return counts


def conditional_probabilities(counts: ArrayLike) -> np.ndarray:
    """S_ij = P(j | i) = C_ij / C_ii, diagonal 0.

    Args:
        counts: (K, K) co-occurrence counts.

    Returns:
        (K, K) float64 in [0, 1]. A class that never occurs has a zero row and column.

    Raises:
        InputError: `counts` is not square, symmetric, of whole numbers >= 0, or two classes
            share more images than one of them has.

    Example:
        >>> conditional_probabilities([[2, 1, 0], [1, 1, 0], [0, 0, 0]])
        array([[0. , 0.5, 0. ],
               [1. , 0. , 0. ],
               [0. , 0. , 0. ]])
    """
    counts = _check_counts(counts)
    images = np.diag(counts)[:, None]
    conditional = np.divide(counts, images, out=np.zeros(counts.shape), where=images > 0)
    np.fill_diagonal(conditional, 0.0)
    return conditional


def cooccurrence_affinity(counts: ArrayLike, root: float = 2.0) -> np.ndarray:
    """M+: how strongly two classes occur together.

    Args:
        counts: (K, K) co-occurrence counts.
        root: tau > 0; 1 leaves the probabilities as they are, larger lifts the rare pairs.

    Returns:
        (K, K) float64 in [0, 1], symmetric, diagonal 0. A class that never occurs has a zero row:
        an isolated node.

    Raises:
        InputError: `counts` is no count matrix, or `root` is not a positive number.

    Example:
        >>> cooccurrence_affinity([[4, 1], [1, 1]])
        array([[0.  , 0.75],
               [0.75, 0.  ]])
    """
    if not np.isscalar(root) or not np.isfinite(root) or root <= 0:
        raise InputError(f"root must be a positive number, but is {root!r}.")
    tempered = conditional_probabilities(counts) ** (1.0 / root)
    return (tempered + tempered.T) / 2


def exclusion_affinity(counts: ArrayLike, root: float = 2.0) -> np.ndarray:
    """M-: how strongly two classes exclude each other, 1 - M+ off the diagonal.

    Args:
        counts: (K, K) co-occurrence counts.
        root: tau > 0, as in `cooccurrence_affinity`.

    Returns:
        (K, K) float64 in [0, 1], symmetric, diagonal 0. A class that never occurs excludes every
        other class.

    Raises:
        InputError: as `cooccurrence_affinity`.

    Example:
        >>> exclusion_affinity([[4, 1], [1, 1]])
        array([[0.  , 0.25],
               [0.25, 0.  ]])
    """
    affinity = 1.0 - cooccurrence_affinity(counts, root)
    np.fill_diagonal(affinity, 0.0)
    return affinity


def group_labels(
    targets: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    n_groups: int = 5,
    root: float = 2.0,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> LabelGroups:
    """The CO and DC groups of the classes, from training labels or from their counts.

    Args:
        targets: (N, K) of 1, 0 and -1; -1 (unknown) counts as absent. Or give `counts`.
        counts: (K, K) co-occurrence counts, in place of `targets`.
        n_groups: groups per view, 1 <= G <= K.
        root: tau > 0, see `cooccurrence_affinity`.
        seed: of the clustering.
        class_names: K different names.

    Returns:
        LabelGroups. Permuting the classes permutes the groups and changes nothing else; classes
        whose counts make them interchangeable need names for that, see `spectral_groups`.

    Raises:
        InputError: labels or counts that cannot be used, none or both given, no positive label at
            all, more groups than classes, wrong or repeated class names.

    Example:
        >>> labels = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]]
        >>> group_labels(labels, n_groups=2, class_names=["cup", "fork", "car", "bus"])
        LabelGroups of 4 classes in 2 groups per view
          CO 0  cup, fork
          CO 1  car, bus
          DC 0  cup, car
          DC 1  fork, bus
    """
    if (targets is None) == (counts is None):
        raise InputError("Give either targets (N, K) or counts (K, K) to group_labels.")
    counts = _check_counts(cooccurrence_counts(targets) if counts is None else counts)
    class_names = check_class_names(class_names, len(counts))
    if not counts.any():
        raise InputError("No class is present in any image: there is nothing to group.")
    return LabelGroups(
        co=spectral_groups(
            cooccurrence_affinity(counts, root), n_groups, seed, class_names=class_names
        ),
        dc=spectral_groups(
            exclusion_affinity(counts, root), n_groups, seed, class_names=class_names
        ),
        n_groups=n_groups,
        class_names=class_names,
    )


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
    rng = np.random.default_rng(seed)
    return LabelGroups(rng.permutation(numbers), rng.permutation(numbers), n_groups, class_names)


def single_group(n_classes: int, class_names: Sequence[str] | None = None) -> LabelGroups:
    """Every class in one group, in both views: the method without grouping."""
    everyone = np.zeros(n_classes, dtype=np.int64)
    return LabelGroups(everyone, everyone, 1, class_names)


def kmeans_groups(
    embeddings: ArrayLike,
    n_groups: int,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> LabelGroups:
    """The k-means partition of label embeddings (K, d), as both views.

    The control for "do label statistics say more than the similarity of labels?".
    """
    groups = kmeans_partition(embeddings, n_groups, seed)
    return LabelGroups(groups, groups, n_groups, class_names)


def _check_counts(counts: ArrayLike) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise InputError(f"Counts must be a (K, K) matrix, but have shape {counts.shape}.")
    if counts.dtype.kind not in "biuf" or not np.isfinite(counts).all():
        raise InputError("Counts must be whole numbers, but hold NaN or something else.")
    if (counts < 0).any() or (counts != np.floor(counts)).any():
        raise InputError("Counts must be whole numbers >= 0.")
    if not np.array_equal(counts, counts.T):
        raise InputError("Counts must be symmetric: (i, j) and (j, i) count the same images.")
    if (counts > np.diag(counts)).any():
        i, j = np.argwhere(counts > np.diag(counts))[0]
        raise InputError(
            f"Classes {i} and {j} share {counts[i, j]} images, but class {j} has only "
            f"{counts[j, j]}: the diagonal must hold the images of each class."
        )
    return counts.astype(np.int64)


def spectral_groups(
    affinity: ArrayLike,
    n_groups: int,
    seed: int = 0,
    n_init: int = 500,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Partition K classes into groups of high mutual affinity.

    Embeds class i as row i of D^(-1/2) V, where V holds the eigenvectors of D^(-1/2) A D^(-1/2)
    with the `n_groups` largest eigenvalues and D the row sums of A, and runs k-means on the rows.
    The row sum of a class without any affinity (an isolated node) is taken as 1, as scikit-learn
    does: its eigenvalue is 0, and while G eigenvalues are positive it sits at the origin.

    Args:
        affinity: (K, K), symmetric, >= 0. The diagonal is not read.
        n_groups: G, 1 <= G <= K.
        seed: of the k-means restarts.
        n_init: k-means restarts; the partition of least inertia is kept.
        class_names: K names, read only to break ties: classes whose place in the graph is
            exactly the same are ordered by name, or without names by position. In the second
            case permuting the classes may swap such interchangeable classes, nothing else.

    Returns:
        (K,) int64 in [0, G). Every group has a member. Group 0 is the largest; groups of equal
        size are ordered by their most connected class.

    Raises:
        InputError: `affinity` is no such matrix, or G is not in [1, K].

    Source: Ma et al., CVPR 2025, section 3.2; normalised spectral clustering of [1], [2].

    Example:
        >>> two_pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0.0]])
        >>> spectral_groups(two_pairs, n_groups=2)
        array([0, 0, 1, 1])
    """
    affinity = _check_affinity(affinity)
    n_groups = check_n_groups(n_groups, len(affinity))
    order = _canonical_order(affinity, class_names)
    embedding = _embedding(affinity[np.ix_(order, order)], n_groups)
    groups = np.empty(len(affinity), dtype=np.int64)
    groups[order] = number_groups(_kmeans(embedding, n_groups, seed, n_init), n_groups)
    return groups


def kmeans_partition(
    points: ArrayLike, n_groups: int, seed: int = 0, n_init: int = 500
) -> np.ndarray:
    """Partition K points by k-means, whatever order they are listed in.

    Args:
        points: (K, d), finite.
        n_groups: G, 1 <= G <= K.
        seed: of the k-means restarts.
        n_init: k-means restarts.

    Returns:
        (K,) int64 in [0, G), numbered from the largest group. Every group has a member.

    Raises:
        InputError: `points` is not two-dimensional and finite, or G is not in [1, K].

    Example:
        >>> kmeans_partition([[0.0], [9.0], [0.1], [0.2]], n_groups=2)
        array([0, 1, 0, 0])
    """
    points = np.array(points, dtype=np.float64)
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise InputError(
            f"Embeddings must be a (K, d) array of finite numbers, but have shape {points.shape} "
            "or hold NaN or infinity."
        )
    n_groups = check_n_groups(n_groups, len(points))
    order = np.lexsort(points.T[::-1])
    groups = np.empty(len(points), dtype=np.int64)
    groups[order] = number_groups(_kmeans(points[order], n_groups, seed, n_init), n_groups)
    return groups


def check_n_groups(n_groups: int, n_classes: int) -> int:
    """The number of groups as an int, if `n_classes` classes can be split so."""
    if isinstance(n_groups, bool) or not isinstance(n_groups, Integral) or n_groups < 1:
        raise InputError(f"n_groups must be a whole number of at least 1, but is {n_groups!r}.")
    if n_groups > n_classes:
        raise InputError(
            f"{n_classes} classes cannot fill {n_groups} groups: choose n_groups <= {n_classes}."
        )
    return int(n_groups)


def number_groups(labels: np.ndarray, n_groups: int) -> np.ndarray:
    """Renumber groups from the largest down, and fill the empty ones.

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


def _check_affinity(affinity: ArrayLike) -> np.ndarray:
    affinity = np.array(affinity, dtype=np.float64)
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1] or affinity.size == 0:
        raise InputError(f"An affinity must be a (K, K) matrix, but has shape {affinity.shape}.")
    if not np.isfinite(affinity).all() or (affinity < 0).any():
        raise InputError("An affinity must hold finite numbers >= 0.")
    if not np.array_equal(affinity, affinity.T):
        raise InputError("An affinity must be symmetric: pass (A + A.T) / 2.")
    np.fill_diagonal(affinity, 0.0)
    return affinity


def _canonical_order(affinity: np.ndarray, class_names: Sequence[str] | None) -> np.ndarray:
    """An order of the classes that does not depend on how they were listed, (K,).

    Colour refinement: classes are told apart by their sorted affinities, then by whom they have
    them with, until nothing more can be told apart. Of classes that are still tied, one is set
    apart and the refinement goes on. Most connected class first.
    """
    n_classes = len(affinity)
    if class_names is not None and len(class_names) != n_classes:
        raise InputError(f"{len(class_names)} class names were given for {n_classes} classes.")
    tie_break = np.argsort(np.argsort(class_names)) if class_names is not None else None
    rank = np.zeros(n_classes, dtype=np.int64)
    while True:
        rank = _refine(affinity, rank)
        cells, sizes = np.unique(rank, return_counts=True)
        if len(cells) == n_classes:
            return np.argsort(rank)
        tied = np.flatnonzero(rank == cells[sizes > 1][0])
        first = tied[0] if tie_break is None else tied[np.argmin(tie_break[tied])]
        rank = 2 * rank + 1
        rank[first] -= 1


def _refine(affinity: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Split classes of equal rank by their affinities to each rank, until stable."""
    n_cells = 0
    while n_cells < len(np.unique(rank)):
        n_cells = len(np.unique(rank))
        ranks = np.broadcast_to(rank, affinity.shape)
        columns = np.lexsort((ranks, -affinity), axis=-1)  # (K, K): strongest neighbour first
        strengths = np.take_along_axis(-affinity, columns, axis=-1)
        keys = np.column_stack([rank, strengths, np.take_along_axis(ranks, columns, axis=-1)])
        rank = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return rank


def _embedding(affinity: np.ndarray, n_components: int) -> np.ndarray:
    """Rows of D^(-1/2) V, (K, n_components)."""
    affinity = affinity / (affinity.max() or 1.0)
    degree = affinity.sum(axis=1)
    scale = 1.0 / np.sqrt(np.where(degree > 0, degree, 1.0))
    _, vectors = np.linalg.eigh(scale[:, None] * affinity * scale)  # eigenvalues ascend
    embedding = scale[:, None] * vectors[:, ::-1][:, :n_components]
    # The last bits depend on the BLAS and its threads. Without them, they cannot choose between
    # partitions that are equally good.
    return embedding.round(10)


def _kmeans(points: np.ndarray, n_groups: int, seed: int, n_init: int) -> np.ndarray:
    with warnings.catch_warnings():
        # Points that coincide make fewer clusters than asked: number_groups fills the others.
        warnings.simplefilter("ignore")
        return KMeans(n_groups, n_init=n_init, random_state=seed).fit_predict(points)
