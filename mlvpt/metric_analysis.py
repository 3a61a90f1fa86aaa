"""What a mean over a test set hides: its uncertainty, and errors that follow a partner class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError
from .grouping import conditional_probabilities
from .label_checks import check_probabilities, check_scores, check_threshold

BOOTSTRAP_ENTRIES = 2**22  # weights held at a time, resamples x images: 16 MB


def bootstrap_map(
    targets: ArrayLike,
    scores: ArrayLike,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of the mAP ("area") over the choice of images, by the bootstrap.

    Images are drawn with replacement; a resample without positives of a class leaves that class
    out. Says nothing about the spread over training seeds.

    Args:
        targets: (N, K) of 1, 0 and -1.
        scores: (N, K), any scale.
        n_resamples: R.
        confidence: of the two-sided percentile interval, in (0, 1).
        seed: of the resampling.

    Returns:
        (low, high) in [0, 1].

    Raises:
        InputError: as `average_precision`; no positive label; confidence outside (0, 1); R < 1.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
    """
    targets, scores = check_scores(targets, scores, "scores")
    if not (targets == 1).any():
        raise InputError("No class has a positive label: there is nothing to measure.")
    if not 0 < confidence < 1 or n_resamples < 1:
        raise InputError("confidence must lie between 0 and 1, and n_resamples be at least 1.")
    n_images = len(targets)
    rng = np.random.default_rng(seed)
    batch = max(1, BOOTSTRAP_ENTRIES // n_images)
    maps = []
    for start in range(0, n_resamples, batch):
        size = min(batch, n_resamples - start)
        weights = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=size)
        maps.append(_weighted_map(targets, scores, weights.astype(np.float32)))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(maps), [tail, 1 - tail])
    return float(low), float(high)


def induced_false_positives(
    targets: ArrayLike,
    probabilities: ArrayLike,
    counts: ArrayLike,
    min_conditional: float = 0.3,
    threshold: float | ArrayLike = 0.5,
) -> dict:
    """How much a class is predicted because its usual partner is there, and it is not.

    A pair (i, j) counts if P(j | i) = C_ij / C_ii in the training counts is at least
    `min_conditional`: who saw i in training mostly saw j. On the images given, j being absent in
    all of them, it compares

        with partner     i present, j absent
        without partner  i absent,  j absent

    by the mean probability given to j, and by the rate of false positives of j (the fraction of
    images on which that probability reaches the threshold). The means over pairs weigh each
    pair the same; a pair for which either kind of image is missing is left out. The difference is
    what leaning on co-occurrence adds, together with whatever else sets images with i apart:
    compare models on the same images, and do not read one figure alone.

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
    targets, probabilities = check_scores(targets, probabilities, "probabilities")
    check_probabilities(probabilities)
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


def _weighted_map(targets: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """mAP ("area") of R resamples, (R,); weights (R, N) say how often each image was drawn."""
    total, n_counted = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(targets.shape[1]):
        known = np.flatnonzero(targets[:, k] != -1)
        order = known[np.argsort(-scores[known, k], kind="stable")]
        if not (targets[order, k] == 1).any():
            continue
        last = np.append(np.flatnonzero(np.diff(scores[order, k])), len(order) - 1)
        drawn = weights[:, order]
        true = np.cumsum(drawn * (targets[order, k] == 1), axis=1)[:, last]
        predicted = np.cumsum(drawn, axis=1)[:, last]
        steps = np.diff(true, axis=1, prepend=0)
        area = np.sum(steps * (true / np.maximum(predicted, 1)), axis=1, dtype=np.float64)
        counted = true[:, -1] > 0
        total += np.where(counted, area / np.maximum(true[:, -1], 1), 0)
        n_counted += counted
    return np.divide(total, n_counted, out=np.full(len(total), np.nan), where=n_counted > 0)
