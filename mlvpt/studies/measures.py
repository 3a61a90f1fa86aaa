"""The measures of a study's run: mAP, CF1, OF1, drop, induced false positives, look-alikes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from mlvpt.bias import claim, pairs_from_json
from mlvpt.datasets.scenes import LOOK_ALIKES
from mlvpt.grouping import cooccurrence_counts
from mlvpt.metrics import induced_false_positives, multilabel_metrics
from mlvpt.training.config import TrainConfig
from mlvpt.training.data import load_data
from mlvpt.training.evaluation import readable_rows


def look_alike_confusion(
    targets: np.ndarray,
    probabilities: np.ndarray,
    pairs: tuple[tuple[int, int], ...],
    thresholds: float | np.ndarray = 0.5,
) -> float:
    """The rate at which one of two look-alikes is predicted where only the other is present.

    Args:
        targets: (N, K) of 1, 0, -1.
        probabilities: (N, K) in [0, 1].
        pairs: the look-alikes, as class indices.
        thresholds: one, or (K,); a probability that reaches it is a prediction.

    Returns:
        Fraction of (image, pair) with exactly one of the pair present in which the other is
        predicted; NaN where there is none.

    Example:
        >>> look_alike_confusion(np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.7], [0.1, 0.8]]),
        ...     ((0, 1),))
        0.5
    """
    predicted = probabilities >= thresholds
    confused = [
        predicted[(targets[:, one] == 1) & (targets[:, other] == 0), other]
        for a, b in pairs
        for one, other in ((a, b), (b, a))
    ]
    found = np.concatenate([np.empty(0, bool), *confused])
    return float(found.mean()) if len(found) else float("nan")


def measure(
    run: Path,
    config: TrainConfig,
    summary: dict[str, Any],
    thresholds: Sequence[float] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The measures of a finished run, as a flat dict of fractions.

    Per split: mAP, its 95% bootstrap interval over images, the AP of each class, CF1 and OF1 at
    thresholds tuned on val. Per test split also the induced false positives
    (`metrics.induced_false_positives`: mean probability, and rate at those thresholds; None where
    no two classes co-occur often enough), and on given pairs the AP of the label on images with
    and without its partner and the conditional rates (see bias.py). For scenes also the drop (mAP
    on test less mAP on test_shifted) and look-alike confusion at the tuned thresholds.

    Args:
        run: the folder of the run, with its probabilities.
        config: of the run.
        summary: of the run.
        thresholds: (K,) tuned elsewhere, for a run that trained on its validation images.
        pairs: (label, partner) names.
    """
    splits = load_data(config.data, config.optim.seed)
    results = summary["results"]
    own = list(results["thresholds"].values())
    thresholds = np.asarray(own or thresholds or [0.5] * len(splits.train.class_names))
    parts = splits.parts
    rows = {
        split: readable_rows(parts[split].targets, stored.double().numpy())
        for split, stored in load_file(run / "probabilities.safetensors").items()
    }
    found: dict[str, Any] = {}
    for split, metrics in results["metrics"].items():
        found[f"{split}_mAP"] = round(metrics["mAP"], 5)
        found[f"{split}_mAP_interval"] = [round(end, 5) for end in metrics["mAP_interval"]]
        found[f"{split}_AP"] = [_rounded(each["AP"]) for each in metrics["per_class"].values()]
        at = multilabel_metrics(*rows[split], thresholds, top_k=None)
        for name in ("CF1", "OF1"):
            found[f"{split}_{name}"] = round(at[name], 5)
    if "test_shifted" in results["metrics"]:
        found["drop"] = round(found["test_mAP"] - found["test_shifted_mAP"], 5)
    counts = cooccurrence_counts(splits.train.targets)
    for split, dataset in splits.tests.items():
        try:
            induced = induced_false_positives(*rows[split], counts, threshold=thresholds)
        except ValueError:  # no class pair co-occurs often enough, as in scenes without structure
            induced = {"probability_difference": None, "rate_difference": None}
        for quantity in ("probability", "rate"):
            found[f"{split}_induced_{quantity}"] = _rounded(induced[f"{quantity}_difference"])
        if pairs:
            found[f"{split}_pairs"] = _on_pairs(
                *rows[split], pairs, thresholds, dataset.class_names
            )
        if config.data.name == "scenes":
            confusion = look_alike_confusion(*rows[split], LOOK_ALIKES, thresholds)
            found[f"{split}_look_alike"] = round(confusion, 5)
    found["thresholds"] = [round(float(value), 5) for value in thresholds]
    return found


def _on_pairs(
    targets: np.ndarray,
    probabilities: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    thresholds: np.ndarray,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """What bias.py measures: means over the pairs with intervals, and lists in order of the pairs.

    The lists leave the intervals out, which would be most of a record.
    """
    indices = pairs_from_json([{"label": b, "partner": z} for b, z in pairs], class_names)
    found = claim(targets, probabilities, indices, thresholds)
    means = (
        "cooccur_AP",
        "exclusive_AP",
        "AP_matched_difference",
        "TPR_difference",
        "FPR_difference",
    )
    result: dict[str, Any] = {}
    for name in means:
        result[name] = _rounded(found[name])
        result[f"{name}_interval"] = [_rounded(end) for end in found[f"{name}_interval"]]
        result[f"{name}_by_pair"] = [_rounded(pair[name]) for pair in found["pairs"]]
    return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
