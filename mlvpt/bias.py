"""Measures of how far a model leans on co-occurrence, on numpy arrays; fractions in [0, 1].

A pair is a class b and its partner z, another class that is often there when b is. A model that
leans on partners finds b where z is and misses b where z is not, which shows on the four kinds of
image that the labels of a pair make:

                z there                          z not there
    b there     co-occur images                  exclusive images
    b not there conditional false positives      their control

The pairs depend on a model. Find them once, with one reference model on held-out images that are
not the test images (`biased_pairs` on val), store them (`pairs_to_json`) and measure every model
on the same pairs (`claim` on test, with thresholds from val).

Targets are 1 (present), 0 (absent) and -1 (unknown). An image whose label of b is unknown is left
out of the pair, and so is one where b is there and z is unknown.

References:
    [1] Singh, Mahajan, Grauman, Lee, Feiszli, Ghadiyaram, "Don't judge an object by its context:
        learning to overcome contextual bias", CVPR 2020: bias, co-occur and exclusive AP.
    [2] Xie, Xiao, Peng, Niu, Sugiyama, Huang, "Counterfactual reasoning for multi-label image
        classification via patching-based training", ICML 2024: conditional TPR and FPR.
    [3] Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlvpt.errors import InputError
from mlvpt.labels import check_class_names, check_probabilities, check_scores, check_threshold
from mlvpt.metrics import (
    CONFIDENCE,
    average_precision,
    bootstrap_weights,
    percentile_interval,
    weighted_average_precision,
)

Pair = tuple[int, int]  # (class b, its partner z)
SMALLEST = 1e-12  # keeps bias finite, and 1 where both means are 0


def biased_pairs(
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    share: float = 0.2,
    n_pairs: int = 20,
    min_images: int = 10,
) -> list[dict]:
    """The pairs of classes on which a reference model leans most on co-occurrence.

        bias(b, z) = mean of p(b) over images with b and z / mean of p(b) over those with b, no z

    Each class b keeps the partner z of its largest bias; the `n_pairs` largest of these are the
    pairs. Give held-out images and one model, and use the pairs for all models.

    Args:
        targets: (N, K) of 1, 0 and -1.
        probabilities: (N, K) in [0, 1], of the reference model.
        share: least share of the images of b that also show z, in [0, 1].
        n_pairs: at most so many pairs.
        min_images: least number of co-occur images and of exclusive images. Ours: a mean of
            fewer is mostly noise, and the AP on them too.

    Returns:
        One dict of plain types per pair, the most biased first: label (b), partner (z), bias,
        share, n_cooccur, n_exclusive. Classes are indices, see `pairs_to_json`.

    Raises:
        InputError: shapes differ, labels or probabilities of other values, share outside [0, 1],
            n_pairs or min_images < 1, no pair with images enough.

    Source: Singh et al., CVPR 2020, section 3, with K = 20 and share 0.2.

    Example:
        >>> targets = [[1, 1], [1, 0], [0, 1]]
        >>> probabilities = [[0.8, 0.9], [0.4, 0.2], [0.1, 0.9]]
        >>> (pair,) = biased_pairs(targets, probabilities, min_images=1, n_pairs=1)
        >>> pair["label"], pair["partner"], round(pair["bias"], 6), pair["share"]
        (0, 1, 2.0, 0.5)
    """
    targets, probabilities = check_probabilities(targets, probabilities)
    if not 0 <= share <= 1:
        raise InputError(f"share must lie in [0, 1], but is {share}.")
    if n_pairs < 1 or min_images < 1:
        raise InputError("n_pairs and min_images must be at least 1.")
    present = (targets == 1).astype(np.float64)
    answers = present * probabilities
    n_images, mean = {}, {}
    for kind, partner in (("cooccur", present), ("exclusive", (targets == 0) * 1.0)):
        n_images[kind] = present.T @ partner  # (K, K): entry (b, z)
        mean[kind] = (answers.T @ partner) / np.maximum(n_images[kind], 1)
    bias = (mean["cooccur"] + SMALLEST) / (mean["exclusive"] + SMALLEST)
    shares = n_images["cooccur"] / np.maximum(n_images["cooccur"] + n_images["exclusive"], 1)
    enough = np.minimum(n_images["cooccur"], n_images["exclusive"]) >= min_images
    bias[~enough | (shares < share)] = -1.0  # with itself a class has no exclusive images
    partners = bias.argmax(axis=1)
    largest = bias.max(axis=1)
    order = [b for b in np.argsort(-largest, kind="stable")[:n_pairs] if largest[b] >= 0]
    if not order:
        raise InputError(
            f"No two classes share at least {share:.0%} of the images of one of them with "
            f"{min_images} images or more of either kind: give more images, or lower share or "
            "min_images."
        )
    return [
        {
            "label": int(b),
            "partner": int(z),
            "bias": float(bias[b, z]),
            "share": float(shares[b, z]),
            "n_cooccur": int(n_images["cooccur"][b, z]),
            "n_exclusive": int(n_images["exclusive"][b, z]),
        }
        for b, z in zip(order, partners[order], strict=True)
    ]


def pairs_to_json(pairs: Sequence[Any], class_names: Sequence[str]) -> list[dict]:
    """Pairs with the names of their classes, to be stored and used with another model.

    Args:
        pairs: of `biased_pairs`, or (b, z) class indices.
        class_names: K names.

    Returns:
        One dict per pair: label and partner as names, and whatever else the pair holds.

    Raises:
        InputError: wrong class names; pairs that are none, see `exclusive_and_cooccur_ap`.

    Example:
        >>> pairs_to_json([(1, 0)], ["fork", "cup"])
        [{'label': 'cup', 'partner': 'fork'}]
    """
    names = check_class_names(class_names, len(class_names))
    return [
        {**(pair if isinstance(pair, Mapping) else {}), "label": names[b], "partner": names[z]}
        for pair, (b, z) in zip(pairs, _check_pairs(pairs, len(names)), strict=True)
    ]


def pairs_from_json(pairs: Sequence[Mapping], class_names: Sequence[str]) -> list[Pair]:
    """The (b, z) class indices of stored pairs.

    Args:
        pairs: of `pairs_to_json`, or any dicts with a label and a partner.
        class_names: K names, in the order of the labels at hand.

    Raises:
        InputError: a pair without the two names, or with a name that is no class.

    Example:
        >>> pairs_from_json([{"label": "cup", "partner": "fork"}], ["fork", "cup"])
        [(1, 0)]
    """
    names = check_class_names(class_names, len(class_names))
    number = {name: k for k, name in enumerate(names)}
    found = []
    for pair in pairs:
        if not isinstance(pair, Mapping) or not {"label", "partner"} <= set(pair):
            raise InputError(f"A stored pair needs a label and a partner, but one is {pair!r}.")
        for name in (pair["label"], pair["partner"]):
            if name not in number:
                raise InputError(
                    f"The pairs name {name!r}, which is none of the {len(names)} classes: use "
                    "pairs that were made with the same classes."
                )
        found.append((number[pair["label"]], number[pair["partner"]]))
    return found


def exclusive_and_cooccur_ap(
    targets: ArrayLike,
    scores: ArrayLike,
    pairs: Sequence[Any],
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Average precision of each pair's class where its partner is, and where it is not.

        co-occur AP     positives: images with b and z       negatives: all images without b
        exclusive AP    positives: images with b, no z       negatives: the same

    The two have different numbers of positives against the same negatives, and AP grows with the
    share of positives. So compare each of them between models, on the same pairs and images. To
    compare the two with each other, read the matched values: there the positives of either kind
    weigh as much as all positives of b, and both AP have the same share of positives.

    Args:
        targets: (N, K) of 1, 0 and -1.
        scores: (N, K), any scale: only their order within a class counts.
        pairs: of `biased_pairs`, or (b, z) class indices.
        n_resamples: of the bootstrap over images, the same resamples for all pairs; 0 leaves the
            intervals out.
        seed: of the bootstrap.

    Returns:
        dict of plain types. `pairs`: for each pair label (b), partner (z), n_cooccur, n_exclusive,
        n_without (images without b), cooccur_AP, exclusive_AP and AP_difference (the first less
        the second), and cooccur_AP_matched, exclusive_AP_matched and AP_matched_difference, each
        with its 95% NAME_interval [low, high]; None where no image is of a kind. On top: n_pairs,
        and the same six with intervals as means over the pairs that have both AP.

    Raises:
        InputError: as `average_precision`; pairs that are empty, not two different classes or no
            classes of these labels; n_resamples < 0; no pair has both.

    Source: Singh et al., CVPR 2020, section 5. Matched AP and the intervals are ours.

    Example:
        >>> targets = [[1, 1], [1, 0], [0, 1], [0, 0]]
        >>> scores = [[0.9, 0.9], [0.2, 0.1], [0.4, 0.9], [0.1, 0.1]]
        >>> found = exclusive_and_cooccur_ap(targets, scores, [(0, 1)], n_resamples=0)
        >>> found["cooccur_AP"], found["exclusive_AP"], found["AP_difference"]
        (1.0, 0.5, 0.5)
    """
    targets, scores = check_scores(targets, scores, "scores")
    pairs = _check_pairs(pairs, targets.shape[1])
    labels, partners = np.array(pairs).T
    there, partner = targets[:, labels], targets[:, partners]  # (N, P)
    # the labels of two new problems: an image of the other kind is unknown in this one
    problems = [np.where(there == 1, np.where(partner == kind, 1, -1), there) for kind in (1, 0)]
    positives = ((there == 1) & (partner != -1)).T.astype(np.float32)  # of both kinds, (P, N)

    def resampled_ap(weights: np.ndarray) -> np.ndarray:
        """(P, 4, r): co-occur and exclusive AP, and the two matched."""
        n_positives = positives @ weights
        found = np.empty((len(pairs), 4, weights.shape[1]))
        for p, label in enumerate(labels):
            for kind in range(2):
                found[p, kind::2] = weighted_average_precision(
                    problems[kind][:, p], scores[:, label], weights, n_positives[p]
                )
        return found

    points = resampled_ap(np.ones((len(targets), 1)))[:, :, 0]
    points[:, :2] = np.stack([average_precision(each, scores[:, labels]) for each in problems], 1)
    points[(there == 0).sum(axis=0) == 0] = np.nan  # nothing to rank the positives above
    counts = {
        "n_cooccur": (problems[0] == 1).sum(axis=0),
        "n_exclusive": (problems[1] == 1).sum(axis=0),
        "n_without": (there == 0).sum(axis=0),
    }
    names = [
        (f"cooccur_{measure}", f"exclusive_{measure}", f"{measure}_difference")
        for measure in ("AP", "AP_matched")
    ]
    resamples = bootstrap_weights(len(targets), n_resamples, seed)
    found = _compared(pairs, counts, names, points, resampled_ap, resamples)
    if found["cooccur_AP"] is None:
        raise InputError(
            "No pair can be compared: each needs images with both classes, with its class alone "
            "and without its class. Give more images, or other pairs."
        )
    return found


def conditional_rates(
    targets: ArrayLike,
    probabilities: ArrayLike,
    pairs: Sequence[Any],
    thresholds: float | ArrayLike = 0.5,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """How often each pair's class is predicted with its partner, and without it.

        TPR with partner      P(predict b | b and z)     conditional true positive rate
        TPR without partner   P(predict b | b, no z)
        FPR with partner      P(predict b | z, no b)     conditional false positive rate
        FPR without partner   P(predict b | neither)     its control

    The difference of the two FPR is what `metrics.induced_false_positives` calls the
    rate_difference of a pair. There the pairs come from training counts, and here from a model.

    Args:
        targets: (N, K) of 1, 0 and -1; an image counts for a pair if both labels are known.
        probabilities: (N, K) in [0, 1].
        thresholds: one for all classes or (K,), tuned on val; a probability that reaches it is a
            prediction.
        pairs, n_resamples, seed: see `exclusive_and_cooccur_ap`.

    Returns:
        A dict as that of `exclusive_and_cooccur_ap`, with the number of images of the four kinds
        (n_both, n_label_only, n_partner_only, n_neither), TPR_with_partner, TPR_without_partner,
        TPR_difference, and the same three of FPR. A mean over no pair is None.

    Raises:
        InputError: as `exclusive_and_cooccur_ap`; probabilities outside [0, 1]; thresholds of
            another length.

    Source: Xie et al., ICML 2024. The control and the intervals are ours.

    Example:
        >>> targets = [[1, 1], [1, 0], [0, 1], [0, 0]]
        >>> probabilities = [[0.9, 0.9], [0.2, 0.1], [0.6, 0.9], [0.1, 0.1]]
        >>> found = conditional_rates(targets, probabilities, [(0, 1)], n_resamples=0)
        >>> [found[f"TPR_{kind}_partner"] for kind in ("with", "without")]
        [1.0, 0.0]
        >>> [found[f"FPR_{kind}_partner"] for kind in ("with", "without")]
        [1.0, 0.0]
    """
    targets, probabilities = check_probabilities(targets, probabilities)
    pairs = _check_pairs(pairs, targets.shape[1])
    labels, partners = np.array(pairs).T
    predicted = (probabilities >= check_threshold(thresholds, targets.shape[1]))[:, labels]
    kinds = np.stack(  # (N, P, 4), in the order of the formulas above
        [
            (targets[:, labels] == b) & (targets[:, partners] == z)
            for b, z in ((1, 1), (1, 0), (0, 1), (0, 0))
        ],
        axis=2,
    )
    hits = kinds & predicted[:, :, None]
    flat = [part.reshape(len(targets), -1).astype(np.float32) for part in (hits, kinds)]

    def rates(weights: np.ndarray) -> np.ndarray:
        """(P, 4, R) rates of resamples, NaN where a resample has no image of the kind."""
        n_hits, n_images = (part.T @ weights for part in flat)
        found = np.divide(
            n_hits, n_images, out=np.full(n_hits.shape, np.nan, np.float32), where=n_images > 0
        )
        return found.reshape(len(pairs), 4, -1)

    n_hits, n_images = hits.sum(axis=0), kinds.sum(axis=0)
    points = np.where(n_images > 0, n_hits / np.maximum(n_images, 1), np.nan)  # (P, 4)
    names = ("n_both", "n_label_only", "n_partner_only", "n_neither")
    counts = dict(zip(names, n_images.T, strict=True))
    names = [
        (f"{rate}_with_partner", f"{rate}_without_partner", f"{rate}_difference")
        for rate in ("TPR", "FPR")
    ]
    resamples = bootstrap_weights(len(targets), n_resamples, seed)
    return _compared(pairs, counts, names, points, rates, resamples)


def claim(
    targets: ArrayLike,
    probabilities: ArrayLike,
    pairs: Sequence[Any],
    thresholds: float | ArrayLike = 0.5,
    *,
    class_names: Sequence[str] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Everything that this module measures of one model on given pairs, ready for JSON.

    Args:
        targets, probabilities, pairs, thresholds: see `conditional_rates`.
        class_names: K names, used in place of indices.
        n_resamples, seed: of the bootstrap over images; both parts see the same resamples.

    Returns:
        What `exclusive_and_cooccur_ap` and `conditional_rates` return, in one dict, and n_images,
        n_resamples, confidence and seed.

    Raises:
        InputError: as the two functions; wrong class names.

    Source: that groups of classes keep a model from leaning on co-occurrence is the claim of Ma et
    al., CVPR 2025, section 1; the protocols are those of the two functions.

    Example:
        >>> targets = [[1, 1], [1, 0], [0, 1], [0, 0]]
        >>> probabilities = [[0.9, 0.9], [0.2, 0.1], [0.4, 0.9], [0.1, 0.1]]
        >>> found = claim(targets, probabilities, [(0, 1)], class_names=["cup", "fork"])
        >>> found["pairs"][0]["label"], found["AP_difference"], found["TPR_difference"]
        ('cup', 0.5, 1.0)
    """
    ap = exclusive_and_cooccur_ap(targets, probabilities, pairs, n_resamples, seed)
    rates = conditional_rates(targets, probabilities, pairs, thresholds, n_resamples, seed)
    rows = [one | other for one, other in zip(ap["pairs"], rates["pairs"], strict=True)]
    if class_names is not None:
        check_class_names(class_names, np.shape(targets)[1])
        rows = pairs_to_json(rows, class_names)
    how = {"n_resamples": n_resamples, "seed": seed, "confidence": CONFIDENCE}
    return {**ap, **rates, "pairs": rows, "n_images": len(targets), **how}


def _check_pairs(pairs: Sequence[Any], n_classes: int) -> list[Pair]:
    """(b, z) of each pair, which may be two numbers or a dict with a label and a partner."""
    found = []
    for pair in pairs:
        two = (pair.get("label"), pair.get("partner")) if isinstance(pair, Mapping) else pair
        two = tuple(two) if isinstance(two, (Sequence, np.ndarray)) else (two,)
        if len(two) != 2 or not all(isinstance(k, Integral) for k in two):
            raise InputError(
                f"A pair must be the numbers of two classes, (class, partner), but one is {pair!r}:"
                " pairs with names go through pairs_from_json."
            )
        if not all(0 <= k < n_classes for k in two) or two[0] == two[1]:
            raise InputError(
                f"A pair must be two different classes from 0 to {n_classes - 1}, but one is "
                f"({two[0]}, {two[1]})."
            )
        found.append((int(two[0]), int(two[1])))
    if not found:
        raise InputError("There are no pairs to measure: find them with biased_pairs on val.")
    return found


def _compared(
    pairs: list[Pair],
    counts: Mapping[str, np.ndarray],
    names: Sequence[tuple[str, str, str]],
    points: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    resamples: Iterable[np.ndarray],
) -> dict:
    """Two values of each pair and their difference, M times: by pair, and in mean, with intervals.

    Args:
        pairs: P pairs.
        counts: {name: (P,) numbers of images}, for the dicts of the pairs.
        names: of the first value, the second and the difference, M times.
        points: (P, 2 M), NaN for a value that does not exist.
        measure: gives the same of resamples, (P, 2 M, r), from their weights (N, r).
        resamples: weights, see `metrics.bootstrap_weights`.

    Returns:
        n_pairs, the means over the pairs that have both values (of a resample, over those that
        have both in it), and `pairs`, a dict for each.
    """
    drawn = [measure(weights) for weights in resamples]
    values = np.concatenate([points[:, :, None], *drawn], axis=2, dtype=np.float64)
    rows = [
        {"label": b, "partner": z, **{name: int(n[p]) for name, n in counts.items()}}
        for p, (b, z) in enumerate(pairs)
    ]
    means: dict[str, Any] = {}
    for number, three in enumerate(names):
        first, second = values[:, 2 * number], values[:, 2 * number + 1]
        found = np.stack([first, second, first - second], axis=1)  # (P, 3, 1 + R)
        for row, of_pair in zip(rows, found, strict=True):
            row |= _with_intervals(three, of_pair)
        both = ~np.isnan(found[:, 2:])  # (P, 1, 1 + R)
        both &= both[:, :, :1]
        n_pairs = both.sum(axis=0)
        total = np.where(both, found, 0.0).sum(axis=0)  # (3, 1 + R)
        mean = np.divide(total, n_pairs, out=np.full(total.shape, np.nan), where=n_pairs > 0)
        means |= _with_intervals(three, mean)
    return {"n_pairs": len(pairs), **means, "pairs": rows}


def _with_intervals(names: tuple[str, str, str], values: np.ndarray) -> dict[str, Any]:
    """{name: value, name_interval: [low, high]} of (3, 1 + R): values, then their resamples."""
    result: dict[str, Any] = {}
    for name, point, drawn in zip(names, values[:, 0], values[:, 1:], strict=True):
        known = not np.isnan(point)
        result[name] = float(point) if known else None
        if len(drawn):
            usable = known and not np.isnan(drawn).all()
            result[f"{name}_interval"] = list(percentile_interval(drawn)) if usable else None
    return result
