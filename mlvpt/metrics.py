"""Metrics of multi-label classification, on numpy arrays; fractions in [0, 1], not percent.

Average precision has three definitions, which differ in how they read the precision-recall curve:

    "area"     sum_n (R_n - R_(n-1)) P_n, the raw curve: scikit-learn, and most papers today
    "voc2010"  the same area under max_{R' >= R} P(R'), at every recall: VOC from 2010 on
    "voc2007"  mean of max_{R' >= r} P(R') over r = 0, 0.1, ..., 1: VOC until 2009

n runs over the distinct scores: images with equal scores enter the curve together.

At a threshold, with TP, predicted and positive counts of each class,

    CP = mean_k TP_k / predicted_k     CR = mean_k TP_k / positive_k     CF1 = 2 CP CR / (CP + CR)
    OP = sum TP / sum predicted        OR = sum TP / sum positive        OF1 = 2 OP OR / (OP + OR)

CF1 is the F1 of the means, as in Chen et al., "Multi-Label Image Recognition with Graph
Convolutional Networks", CVPR 2019, and the papers that compare with it. macro_F1, the mean of the
F1 of each class, is another number.

Targets are 1 (present), 0 (absent) and -1 (unknown: the entry is left out of everything).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from mlvpt.errors import InputError
from mlvpt.grouping import conditional_probabilities
from mlvpt.labels import check_class_names, check_probabilities, check_scores, check_threshold

Definition = Literal["area", "voc2010", "voc2007"]
BOOTSTRAP_ENTRIES = 2**22  # weights held at a time, resamples x images: 16 MB
CONFIDENCE = 0.95  # of every interval, two-sided


def average_precision(
    targets: ArrayLike, scores: ArrayLike, definition: Definition = "area"
) -> np.ndarray:
    """Average precision of each class.

    Args:
        targets: (N, K) of 1, 0 and -1.
        scores: (N, K), any scale: only their order within a class counts.
        definition: "area", "voc2010" or "voc2007", see the head of this module.

    Returns:
        (K,) float64 in [0, 1]; NaN for a class without positives.

    Raises:
        InputError: shapes differ, scores hold NaN, labels outside {1, 0, -1}, unknown definition.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, for the VOC
    definitions; "area" equals `sklearn.metrics.average_precision_score`.

    Example:
        >>> targets = [[1], [0], [1], [0]]
        >>> scores = [[0.9], [0.8], [0.7], [0.1]]
        >>> [average_precision(targets, scores, d).round(3).item() for d in
        ...  ("area", "voc2010", "voc2007")]
        [0.833, 0.833, 0.848]
    """
    targets, scores = check_scores(targets, scores, "scores")
    if definition not in ("area", "voc2010", "voc2007"):
        raise InputError(
            f'Unknown definition of average precision {definition!r}: choose "area", "voc2010" '
            'or "voc2007".'
        )
    result = np.full(targets.shape[1], np.nan)
    for k in range(targets.shape[1]):
        known = targets[:, k] != -1
        positive = targets[known, k] == 1
        if positive.any():
            result[k] = _class_average_precision(positive, scores[known, k], definition)
    return result


def multilabel_metrics(
    targets: ArrayLike,
    probabilities: ArrayLike,
    threshold: float | ArrayLike = 0.5,
    top_k: int | None = 3,
    class_names: Sequence[str] | None = None,
    definition: Definition = "area",
) -> dict:
    """All metrics of a prediction: mAP; precision, recall, F1 at a threshold and of the top k.

    A class without positives has neither AP nor recall: the class means (mAP, CP, CR, CF1,
    macro_F1) leave it out and `excluded_classes` names it. A class with positives that is never
    predicted has precision 0. OP and OR pool the known entries of all classes.

    Args:
        targets: (N, K) of 1, 0 and -1.
        probabilities: (N, K) in [0, 1].
        threshold: one for all classes or (K,); a probability that reaches it is a prediction.
        top_k: the k most probable labels of each image are its predictions, unknown entries
            aside, ties in class order. None leaves these metrics out.
        class_names: K names for `excluded_classes`; without them it holds indices.
        definition: of average precision.

    Returns:
        dict of plain types, ready for JSON: mAP, ap_per_class (K floats, None without positives),
        n_positives (K), n_images, excluded_classes, CP, CR, CF1, OP, OR, OF1, macro_F1, the same
        seven as top3_CP and so on, and the definition and threshold they were computed with.

    Raises:
        InputError: shapes differ, probabilities are NaN or outside [0, 1], labels outside
            {1, 0, -1}, no positive label at all, thresholds of another length, top_k < 1.

    Example:
        >>> metrics = multilabel_metrics([[1, 0], [0, 1]], [[0.9, 0.6], [0.2, 0.8]], top_k=1)
        >>> metrics["CP"], metrics["CR"], metrics["OP"], metrics["top1_OF1"]
        (0.75, 1.0, 0.6666666666666666, 1.0)
    """
    targets, probabilities = check_probabilities(targets, probabilities)
    n_images, n_classes = targets.shape
    names = check_class_names(class_names, n_classes)
    threshold = check_threshold(threshold, n_classes)
    n_positives = (targets == 1).sum(axis=0)
    if not n_positives.any():
        raise InputError("No class has a positive label: there is nothing to measure.")
    ap = average_precision(targets, probabilities, definition)
    excluded = np.flatnonzero(n_positives == 0).tolist()
    metrics = {
        "mAP": float(np.nanmean(ap)),
        **_precision_recall(targets, probabilities >= threshold),
        "ap_per_class": [None if np.isnan(value) else value for value in ap.tolist()],
        "n_positives": n_positives.tolist(),
        "n_images": n_images,
        "excluded_classes": excluded if names is None else [names[k] for k in excluded],
        "definition": definition,
        "threshold": threshold.tolist(),
    }
    if top_k is not None:
        top = _precision_recall(targets, _top_k(targets, probabilities, top_k))
        metrics.update({f"top{top_k}_{name}": value for name, value in top.items()})
    return metrics


def tune_thresholds(targets: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Thresholds, for each class the one that maximises its F1. Use validation data, never test.

    Exact: every way of cutting the sorted probabilities is tried. The threshold lies half-way
    between the two probabilities it separates; of equally good ones the highest is taken.

    Args:
        targets: (N, K) of 1, 0 and -1.
        probabilities: (N, K) in [0, 1].

    Returns:
        (K,) float64 in [0, 1]; 0.5 for a class without positives.

    Raises:
        InputError: as `multilabel_metrics`.

    Example:
        >>> tune_thresholds([[1], [1], [0], [0]], [[0.9], [0.3], [0.1], [0.0]])
        array([0.2])
    """
    targets, probabilities = check_probabilities(targets, probabilities)
    thresholds = np.full(targets.shape[1], 0.5)
    for k in range(targets.shape[1]):
        known = targets[:, k] != -1
        positive = targets[known, k] == 1
        if not positive.any():
            continue
        true, predicted, cuts = _curve(positive, probabilities[known, k])
        best = np.argmax(2 * true / (predicted + positive.sum()))
        upper = cuts[best]
        lower = cuts[best + 1] if best + 1 < len(cuts) else 0.0
        middle = (upper + lower) / 2
        thresholds[k] = middle if middle > lower else upper  # neighbouring floats have no middle
    return thresholds


def _curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, predictions and score at each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last of equal scores
    return np.cumsum(positive[order])[last], last + 1, scores[last]


def _class_average_precision(
    positive: np.ndarray, scores: np.ndarray, definition: Definition
) -> float:
    true, predicted, _ = _curve(positive, scores)
    n_positives = positive.sum()
    precision = true / predicted
    if definition != "area":
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    if definition == "voc2007":
        # recall >= r / 10 in whole numbers: 3 / 10 is not 0.1 + 0.1 + 0.1
        points = np.searchsorted(10 * true, np.arange(11) * n_positives)
        return float(precision[points].mean())
    return float(np.sum(np.diff(true, prepend=0) / n_positives * precision))


def _top_k(targets: np.ndarray, probabilities: np.ndarray, top_k: int) -> np.ndarray:
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, but is {top_k}.")
    ranked = np.where(targets == -1, -1.0, probabilities)
    top = np.argsort(-ranked, axis=1, kind="stable")[:, :top_k]
    predicted = np.zeros(targets.shape, dtype=bool)
    np.put_along_axis(predicted, top, True, axis=1)
    return predicted


def _precision_recall(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    positive = targets == 1
    predicted = predicted & (targets != -1)
    n_true = (positive & predicted).sum(axis=0)
    n_predicted, n_positive = predicted.sum(axis=0), positive.sum(axis=0)
    counted = n_positive > 0
    precision = n_true[counted] / np.maximum(n_predicted[counted], 1)
    recall = n_true[counted] / n_positive[counted]
    cp, cr = float(precision.mean()), float(recall.mean())
    op = float(n_true.sum() / max(n_predicted.sum(), 1))
    or_ = float(n_true.sum() / n_positive.sum())
    f1 = 2 * n_true[counted] / (n_predicted[counted] + n_positive[counted])
    return {
        "CP": cp,
        "CR": cr,
        "CF1": _f1(cp, cr),
        "OP": op,
        "OR": or_,
        "OF1": _f1(op, or_),
        "macro_F1": float(f1.mean()),
    }


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def bootstrap_map(
    targets: ArrayLike, scores: ArrayLike, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of the mAP ("area") over the choice of images, by the bootstrap.

    Images are drawn with replacement; a resample without positives of a class leaves that class
    out. Says nothing about the spread over training seeds.

    Args:
        targets: (N, K) of 1, 0 and -1.
        scores: (N, K), any scale.
        n_resamples: number of resamples, R.
        seed: of the resampling.

    Returns:
        (low, high) in [0, 1].

    Raises:
        InputError: as `average_precision`; no positive label; R < 1.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
    """
    targets, scores = check_scores(targets, scores, "scores")
    if not (targets == 1).any():
        raise InputError("No class has a positive label: there is nothing to measure.")
    if n_resamples < 1:
        raise InputError(f"n_resamples must be at least 1, but is {n_resamples}.")
    maps = []
    for weights in bootstrap_weights(len(targets), n_resamples, seed):
        columns = zip(targets.T, scores.T, strict=True)
        ap = np.concatenate([weighted_average_precision(t, s, weights) for t, s in columns])
        counted = (~np.isnan(ap)).sum(axis=0)
        maps.append(np.nansum(ap, axis=0) / np.where(counted, counted, np.nan))
    return percentile_interval(np.concatenate(maps))


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """The middle 95% of a measure's (R,) resamples; NaN, a resample without it, is left out."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_weights(n_images: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Batches (N, r) of float32: how often each image is drawn in each of r resamples.

    The resamples are the same for any size of a batch.
    """
    if n_resamples < 0:
        raise InputError(f"n_resamples must be 0 or more, but is {n_resamples}.")
    rng = np.random.default_rng(seed)
    batch = max(1, BOOTSTRAP_ENTRIES // n_images)
    chance = np.full(n_images, 1 / n_images)
    for start in range(0, n_resamples, batch):
        drawn = rng.multinomial(n_images, chance, size=min(batch, n_resamples - start))
        yield np.ascontiguousarray(drawn.T, np.float32)


def weighted_average_precision(
    targets: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray,
    n_positives: np.ndarray | None = None,
) -> np.ndarray:
    """AP ("area") of one class in r resamples, (1, r); with `n_positives` also matched, (2, r).

    Recall rises only where a positive stands, so the scores of the positives are the only cuts. A
    sparse matrix adds up the images that come in at each cut: N * r additions, no sorting.

    Args:
        targets: (N,) of 1, 0 and -1.
        scores: (N,), any scale.
        weights: (N, r), how often each image was drawn.
        n_positives: (r,). For matched AP the positives count as if they were so many, with the
            scores that they have.
    """
    rows = 1 if n_positives is None else 2
    positive = targets == 1
    if not positive.any():
        return np.full((rows, weights.shape[1]), np.nan)
    cuts = np.unique(-scores[positive])  # minus the scores, from the highest down
    place = np.searchsorted(cuts, -scores)  # the first cut at which an image is predicted
    coming = (targets != -1) & (place < len(cuts))

    def predicted(images: np.ndarray) -> np.ndarray:
        images = np.flatnonzero(images)
        ones = np.ones(len(images), np.float32)
        shape = (len(cuts), len(scores))
        matrix = sparse.csr_matrix((ones, (place[images], images)), shape=shape)
        return np.cumsum(matrix @ weights, axis=0)  # (cuts, r)

    true = predicted(positive)
    false = predicted(coming & ~positive)
    total, factors = true[-1], [1]
    if n_positives is not None:
        gain = np.zeros(total.shape, total.dtype)
        factors.append(np.divide(n_positives, total, out=gain, where=total > 0))
    steps = np.diff(true, axis=0, prepend=0)
    result = np.full((rows, len(total)), np.nan)
    for row, factor in zip(result, factors, strict=True):
        more = factor * true
        precision = np.divide(more, more + false, out=np.zeros_like(more), where=more > 0)
        area = np.sum(steps * precision, axis=0, dtype=np.float64)
        np.divide(area, total, out=row, where=total > 0)
    return result


def induced_false_positives(
    targets: ArrayLike,
    probabilities: ArrayLike,
    counts: ArrayLike,
    min_conditional: float = 0.3,
    threshold: float | ArrayLike = 0.5,
) -> dict:
    """False positives induced by co-occurrence: a class predicted because its partner is there.

    A pair (i, j) counts if P(j | i) = C_ij / C_ii in the training counts is at least
    `min_conditional`: training images of i mostly showed j, too. Of the images given, those
    without j are compared,

        with partner     i present, j absent
        without partner  i absent,  j absent

    by the mean probability given to j, and by the rate of false positives of j (the fraction of
    images on which that probability reaches the threshold). The means over pairs weigh each
    pair the same; a pair for which either kind of image is missing is left out. The difference
    holds what leaning on co-occurrence adds and whatever else sets images with i apart, so compare
    models on the same images.

    Args:
        targets: (N, K) of 1, 0 and -1; an image counts for a pair if both labels are known.
        probabilities: (N, K) in [0, 1].
        counts: (K, K) co-occurrence counts of the training labels.
        min_conditional: least P(j | i), in (0, 1].
        threshold: one for all classes or (K,).

    Returns:
        dict of plain types: probability_with_partner, probability_without_partner,
        probability_difference, rate_with_partner, rate_without_partner, rate_difference, n_pairs,
        min_conditional, and `pairs`: for each pair a dict with partner (i), label (j),
        conditional, n_with_partner, n_without_partner and the four values of the pair.

    Raises:
        InputError: as `multilabel_metrics`; counts of another size; no pair can be compared.

    Source: the measure is ours; the claim it tests is that of Ma et al., CVPR 2025, section 1.

    Example:
        >>> found = induced_false_positives(
        ...     targets=[[1, 0], [0, 0]], probabilities=[[0.9, 0.75], [0.2, 0.25]],
        ...     counts=[[4, 2], [2, 8]])
        >>> found["probability_difference"], found["rate_difference"], found["n_pairs"]
        (0.5, 1.0, 1)
    """
    targets, probabilities = check_probabilities(targets, probabilities)
    conditional = conditional_probabilities(counts)
    n_classes = targets.shape[1]
    if len(conditional) != n_classes:
        raise InputError(f"Counts of {len(conditional)} classes do not fit {n_classes} classes.")
    if not 0 < min_conditional <= 1:
        raise InputError(f"min_conditional must lie in (0, 1], but is {min_conditional}.")
    absent = (targets == 0).astype(np.float64)
    false_positive = absent * (probabilities >= check_threshold(threshold, n_classes))
    values = {}
    for kind, images in (("with", targets == 1), ("without", targets == 0)):
        partner = images.T.astype(np.float64)
        n_images = partner @ absent  # (K, K): entry (i, j)
        safe = np.maximum(n_images, 1)
        values[f"n_{kind}_partner"] = n_images.astype(int)
        values[f"probability_{kind}_partner"] = partner @ (absent * probabilities) / safe
        values[f"rate_{kind}_partner"] = partner @ false_positive / safe
    both = (values["n_with_partner"] > 0) & (values["n_without_partner"] > 0)
    chosen = np.argwhere((conditional >= min_conditional) & both)
    if len(chosen) == 0:
        raise InputError(
            f"No pair of classes with P(j | i) >= {min_conditional} can be compared: of the images "
            "without j some must show i, and some must not. Give more images, or lower "
            f"min_conditional (the largest P(j | i) is {conditional.max():.2f})."
        )
    pairs = [
        {
            "partner": int(i),
            "label": int(j),
            "conditional": float(conditional[i, j]),
            **{name: value[i, j].item() for name, value in values.items()},
        }
        for i, j in chosen
    ]
    result = {"n_pairs": len(pairs), "min_conditional": min_conditional, "pairs": pairs}
    for quantity in ("probability", "rate"):
        names = f"{quantity}_with_partner", f"{quantity}_without_partner"
        with_partner, without = (float(np.mean([pair[name] for pair in pairs])) for name in names)
        result |= {names[0]: with_partner, names[1]: without}
        result[f"{quantity}_difference"] = with_partner - without
    return result
