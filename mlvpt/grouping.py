"""Label grouping: from training labels to CO and DC groups.

With C = Y^T Y the co-occurrence counts of the labels Y in {0, 1}^(N x K),

    S_ij = P(j | i) = C_ij / C_ii          conditional probability, diagonal 0
    R    = S^(1 / tau)                     element by element
    M+   = (R + R^T) / 2                   CO affinity: classes seen together
    M-   = 1 - M+, diagonal 0              DC affinity: classes that exclude each other

and spectral clustering of M+ and M- gives the CO and the DC groups. The root of order tau tempers
the skew of the counts; tau = 2 reproduces the groups that the authors released for VOC2007.

The embedding and the k-means are those of scikit-learn's `SpectralClustering` (a test compares
them), with three differences, so that a partition can be trusted to the last class. Up to 500
classes the eigenvectors come from a dense solver, since an iterative one may miss one of several
equal eigenvalues. Classes are put in an order of their own before anything random happens. And
k-means restarts 500 times: with 100, one seed in three misses the best 8 CO groups of VOC2007.

Source: Ma, Xu, Xie, Wang, Sun, Zhao, "Correlative and Discriminative Label Grouping for
Multi-Label Visual Prompt Tuning", CVPR 2025, section 3.2. Their code for this step was not
released; mlvpt.studies.reproduction compares our groups with theirs.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from mlvpt.errors import InputError
from mlvpt.labels import (
    LabelGroups,
    check_affinity,
    check_class_names,
    check_counts,
    check_n_groups,
    check_seed,
    check_targets,
    check_tau,
    check_taus,
    number_groups,
)
from mlvpt.labels import random_groups as random_groups
from mlvpt.labels import single_group as single_group

CHUNK = 65536  # images counted at a time: a sum of so many ones is exact in float32
DENSE = 500  # up to so many classes: dense eigenvectors in float64; above: iterative, float32
RESTARTS = 500  # of k-means, for up to DENSE classes


def cooccurrence_counts(targets: ArrayLike) -> np.ndarray:
    """Co-occurrence counts: how many images show both class i and class j.

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
    return _count(check_targets(targets), np.int64)


def conditional_probabilities(counts: ArrayLike) -> np.ndarray:
    """Conditional probabilities S_ij = P(j | i) = C_ij / C_ii, diagonal 0.

    Args:
        counts: (K, K) co-occurrence counts.

    Returns:
        (K, K) float64 in [0, 1]. A class that never occurs has a zero row and column.

    Raises:
        InputError: `counts` is no count matrix, see `check_counts`.

    Example:
        >>> conditional_probabilities([[2, 1, 0], [1, 1, 0], [0, 0, 0]])
        array([[0. , 0.5, 0. ],
               [1. , 0. , 0. ],
               [0. , 0. , 0. ]])
    """
    return _conditional(check_counts(counts), np.float64)


def _root_is_tau(function: Callable) -> Callable:
    """Version 0.1 called tau `root`: accept it for one version, with a warning."""

    @functools.wraps(function)
    def call(*args, **keywords):
        if "root" in keywords:
            message = f"{function.__name__} calls `root` `tau` now: the old name goes in 0.3."
            warnings.warn(message, FutureWarning, stacklevel=2)
            keywords["tau"] = keywords.pop("root")
        return function(*args, **keywords)

    return call


@_root_is_tau
def cooccurrence_affinity(counts: ArrayLike, tau: float = 2.0) -> np.ndarray:
    """CO affinity M+: how strongly two classes occur together.

    Args:
        counts: (K, K) co-occurrence counts.
        tau: order of the root, > 0; 1 keeps the probabilities, larger lifts the rare pairs.

    Returns:
        (K, K) float64 in [0, 1], symmetric, diagonal 0. A class that never occurs has a zero row.

    Raises:
        InputError: `counts` is no count matrix, or `tau` is not a positive number.

    Example:
        >>> cooccurrence_affinity([[4, 1], [1, 1]])
        array([[0.  , 0.75],
               [0.75, 0.  ]])
    """
    return _affinity(check_counts(counts), check_tau(tau), np.float64)


@_root_is_tau
def exclusion_affinity(counts: ArrayLike, tau: float = 2.0) -> np.ndarray:
    """DC affinity M-: how strongly two classes exclude each other, 1 - M+ off the diagonal.

    Arguments and errors are those of `cooccurrence_affinity`.

    Returns:
        (K, K) float64 in [0, 1], symmetric, diagonal 0. A class that never occurs excludes all.

    Example:
        >>> exclusion_affinity([[4, 1], [1, 1]])
        array([[0.  , 0.25],
               [0.25, 0.  ]])
    """
    return _excluding(cooccurrence_affinity(counts, tau))


def spectral_groups(
    affinity: ArrayLike,
    n_groups: int,
    seed: int = 0,
    n_init: int | None = None,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Partition of K classes into groups of high mutual affinity, by spectral clustering.

    Embeds class i as row i of D^(-1/2) V, where V holds the eigenvectors of D^(-1/2) A D^(-1/2)
    with the `n_groups` largest eigenvalues and D the row sums of A, and runs k-means on the rows.
    The row sum of a class without any affinity (an isolated node) is taken as 1, as scikit-learn
    does; while G eigenvalues are positive, it sits at the origin.

    Args:
        affinity: (K, K), symmetric, >= 0. The diagonal is not read.
        n_groups: G, 1 <= G <= K.
        seed: of the k-means restarts.
        n_init: k-means restarts; the partition of least inertia is kept. None: 500, fewer above
            500 classes, and 10 from 3,500 classes on.
        class_names: K different names. They only break ties: classes with the same affinities are
            ordered by name, or else by position, and then permuting the classes may change which
            of several equally good partitions is found.

    Returns:
        (K,) int64 in [0, G). Every group has a member. Group 0 is the largest; groups of equal
        size are ordered by their class of strongest affinity, above 500 classes by first name.

    Raises:
        InputError: `affinity` is no such matrix, G is not in [1, K], or the names do not fit.

    Source: Ma et al., section 3.2; Ng, Jordan, Weiss, "On spectral clustering", NIPS 2001.

    Example:
        >>> two_pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0.0]])
        >>> spectral_groups(two_pairs, n_groups=2)
        array([0, 0, 1, 1])
    """
    affinity = check_affinity(affinity)
    names = check_class_names(class_names, len(affinity))
    n_groups = check_n_groups(n_groups, len(affinity))
    return _spectral(affinity, n_groups, check_seed(seed), names, n_init=n_init)


def spectral_embedding(affinity: ArrayLike, n_groups: int) -> np.ndarray:
    """The points that `spectral_groups` clusters, (K, G) float64; arguments and errors as there."""
    affinity = check_affinity(affinity)
    return _embedding(affinity, check_n_groups(n_groups, len(affinity)))


@_root_is_tau
def group_labels(
    targets: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    n_groups: int = 5,
    tau: float | Sequence[float] = 2.0,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> LabelGroups:
    """The CO and DC groups of the classes, from training labels or from their counts.

    10,000 classes of 20,000 images take under a minute and 2 GB.

    Args:
        targets: (N, K) of 1, 0 and -1; -1 (unknown) counts as absent. Or give `counts`.
        counts: (K, K) co-occurrence counts, in place of `targets`.
        n_groups: groups per view, 1 <= G <= K.
        tau: > 0, see `cooccurrence_affinity`; or a pair, the tau of CO and the tau of DC.
        seed: of the clustering.
        class_names: K different names.

    Returns:
        LabelGroups. Permuting classes that have names permutes the groups and changes nothing
        else; without names see `spectral_groups`.

    Raises:
        InputError: unusable labels or counts, none or both given, no positive label, more groups
            than classes, wrong or repeated class names, a tau that is not positive.

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
    counts = _count(check_targets(targets), np.int32) if counts is None else check_counts(counts)
    class_names = check_class_names(class_names, len(counts))
    n_groups, seed = check_n_groups(n_groups, len(counts)), check_seed(seed)
    tau_co, tau_dc = check_taus(tau)
    if not counts.any():
        raise InputError("No class is present in any image: there is nothing to group.")
    dtype = np.float64 if len(counts) <= DENSE else np.float32
    affinity = _affinity(counts, tau_co, dtype)
    co = _spectral(affinity, n_groups, seed, class_names)
    if tau_dc != tau_co:
        affinity = _affinity(counts, tau_dc, dtype)
    dc = _spectral(affinity, n_groups, seed, class_names, exclusion=True)
    return LabelGroups(co, dc, n_groups, class_names)


def kmeans_groups(
    embeddings: ArrayLike, n_groups: int, seed: int = 0, class_names: Sequence[str] | None = None
) -> LabelGroups:
    """The k-means partition of label embeddings (K, d), as both views.

    The control for "do label statistics say more than the similarity of labels?".

    Raises:
        InputError: `embeddings` is not two-dimensional and finite, or G is not in [1, K].

    Example:
        >>> kmeans_groups([[0.0], [9.0], [0.1], [0.2]], n_groups=2).co
        array([0, 1, 0, 0])
    """
    points = np.array(embeddings, dtype=np.float64)
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise InputError(
            f"Embeddings must be finite numbers (K, d), but hold others or have {points.shape}."
        )
    n_groups, order = check_n_groups(n_groups, len(points)), np.lexsort(points.T[::-1])
    groups = _kmeans(points, order, n_groups, check_seed(seed))
    return LabelGroups(groups, groups, n_groups, class_names)


# What follows trusts its arguments: the public functions above have checked them.


def _count(targets: np.ndarray, dtype: type) -> np.ndarray:
    n_images, n_classes = targets.shape
    counts = np.zeros((n_classes, n_classes), dtype)
    chunk = max(1, min(CHUNK, 2**24 // n_classes))  # bounds the memory of many classes
    for start in range(0, n_images, chunk):
        present = (targets[start : start + chunk] == 1).astype(np.float32)
        n_pairs = (np.count_nonzero(present, axis=1).astype(float) ** 2).sum()
        if n_classes > DENSE and n_pairs < counts.size / 16:  # a few labels per image
            sparse = csr_array(present)
            found = (sparse.T @ sparse).tocoo()
            counts[found.row, found.col] += found.data.astype(dtype)
        else:
            np.add(counts, present.T @ present, out=counts, casting="unsafe")
    return counts


def _conditional(counts: np.ndarray, dtype: type) -> np.ndarray:
    images = np.diag(counts)[:, None]
    conditional = np.zeros(counts.shape, dtype)
    np.divide(counts, images, out=conditional, where=images > 0, casting="same_kind")
    np.fill_diagonal(conditional, 0)
    return conditional


def _affinity(counts: np.ndarray, tau: float, dtype: type) -> np.ndarray:
    """M+, in one (K, K) array: the mean of both directions is taken in place, block by block."""
    affinity = _conditional(counts, dtype)
    affinity **= 1.0 / tau
    for start in range(0, len(affinity), 1024):
        rows = affinity[start : start + 1024, start:]
        columns = affinity[start:, start : start + 1024]
        mean = (rows + columns.T) / 2
        rows[:], columns[:] = mean, mean.T
    return affinity


def _excluding(affinity: np.ndarray) -> np.ndarray:
    return 1.0 - affinity - np.eye(len(affinity), dtype=affinity.dtype)


def _spectral(
    affinity: np.ndarray,
    n_groups: int,
    seed: int,
    names: Sequence[str] | None,
    *,
    exclusion: bool = False,
    n_init: int | None = None,
) -> np.ndarray:
    """The groups of `affinity`, which is M+; with `exclusion` those of M-."""
    ranks = np.arange(len(affinity)) if names is None else np.argsort(np.argsort(names))
    if len(affinity) > DENSE:
        embedding = _large_embedding(affinity, n_groups, ranks, exclusion)
        return _kmeans(embedding, np.argsort(ranks), n_groups, seed, n_init)
    if exclusion:
        affinity = _excluding(affinity)
    # By the strongest neighbour, then the second strongest, and so on; ties by name.
    order = np.lexsort([ranks, *np.sort(-affinity, axis=1).T[::-1]])
    embedding = np.empty((len(affinity), n_groups))
    embedding[order] = _embedding(affinity[np.ix_(order, order)], n_groups)
    return _kmeans(embedding, order, n_groups, seed, n_init)


def _embedding(affinity: np.ndarray, n_components: int) -> np.ndarray:
    """Rows of D^(-1/2) V, (K, n_components)."""
    affinity = affinity / (affinity.max() or 1.0)
    degree = affinity.sum(axis=1)
    scale = 1.0 / np.sqrt(np.where(degree > 0, degree, 1.0))
    _, vectors = np.linalg.eigh(scale[:, None] * affinity * scale)  # eigenvalues ascend
    embedding = scale[:, None] * vectors[:, ::-1][:, :n_components]
    # The last bits depend on the BLAS and its threads, which must not choose the partition.
    return embedding.round(10)


def _large_embedding(
    affinity: np.ndarray, n_components: int, ranks: np.ndarray, exclusion: bool
) -> np.ndarray:
    """Rows of D^(-1/2) V, (K, n_components), from products with M+ alone; M- is never built."""
    n_classes = len(affinity)
    if not exclusion and not affinity.any():  # no two classes meet: all are isolated nodes
        return np.zeros((n_classes, n_components))
    if n_components > n_classes // 4:  # so many eigenvectors are faster by the dense solver
        return _embedding(_excluding(affinity) if exclusion else affinity, n_components)
    matrix = csr_array(affinity) if np.count_nonzero(affinity) < affinity.size / 10 else affinity

    def product(vector: np.ndarray) -> np.ndarray:
        vector = vector.reshape(-1)
        found = (matrix @ vector.astype(affinity.dtype)).astype(np.float64)
        return vector.sum() - vector - found if exclusion else found

    degree = product(np.ones(n_classes))
    scale = 1.0 / np.sqrt(np.where(degree > 0, degree, 1.0))
    operator = LinearOperator(
        affinity.shape, lambda v: scale * product(scale * v.reshape(-1)), dtype=np.float64
    )
    start = np.random.default_rng(0).random(n_classes)[ranks]  # follows the classes
    basis = min(n_classes, max(4 * n_components, 80))
    with threadpool_limits(1):  # many short products: threads wait for one another
        _, vectors = eigsh(operator, n_components, which="LA", v0=start, ncv=basis, tol=1e-4)
    return scale[:, None] * vectors[:, ::-1]


def _kmeans(
    points: np.ndarray, order: np.ndarray, n_groups: int, seed: int, n_init: int | None = None
) -> np.ndarray:
    """The best of `n_init` runs of k-means on the points taken in an order, numbered."""
    if n_init is None:
        n_init = int(np.clip(RESTARTS * (DENSE / len(points)) ** 2, 10, RESTARTS))
    with warnings.catch_warnings(), threadpool_limits(1):  # for so few points more cost time
        # Points that coincide make fewer clusters than asked: number_groups fills the others.
        warnings.simplefilter("ignore")
        found = KMeans(n_groups, n_init=n_init, random_state=seed).fit_predict(points[order])
    groups = np.empty(len(points), dtype=np.int64)
    groups[order] = number_groups(found, n_groups)
    return groups
