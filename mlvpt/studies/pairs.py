"""The pairs of classes on which co-occurrence is held against a model, and what it is charged with.

Pairs come from one reference model and serve all models of a data set: those of the recorded
studies ship with the package, found by name or by their classes. A run on other data has those of
its own model on the validation images that it held out.
"""

from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from safetensors.torch import load_file

from mlvpt.bias import biased_pairs, claim, conditional_rates, pairs_from_json, pairs_to_json
from mlvpt.errors import InputError
from mlvpt.files import read_json
from mlvpt.metrics import induced_false_positives
from mlvpt.studies.tables import layout, signed
from mlvpt.training.config import TrainConfig
from mlvpt.training.data import load_data
from mlvpt.training.evaluation import readable_rows
from mlvpt.training.folder import RunFolder
from mlvpt.training.loop import train
from mlvpt.training.record import write_record

PAIRS = [{"label": str, "partner": str}]
SCHEMA = {"results": {"pairs": PAIRS}}
FOLDER = Path(str(resources.files("mlvpt.results")))


class Pairs(NamedTuple):
    """Pairs of classes and where they come from.

    Attributes:
        indices: (label, partner) class numbers.
        source: a file, or the run's own model, in words.
    """

    indices: list[tuple[int, int]]
    source: str


def reference_pairs(reference: TrainConfig, path: Path) -> list[dict[str, Any]]:
    """The most biased pairs of one reference model on validation images, made once and kept.

    Args:
        reference: the run whose model names the pairs; it must hold its validation images out.
        path: the JSON record that keeps them.

    Returns:
        A dict per pair with the names of its label and its partner, see `bias.pairs_to_json`.

    Source: Singh et al., CVPR 2020, whose pairs are those of one model, too.
    """
    if not path.exists():
        with TemporaryDirectory() as folder:
            summary = train(reference, Path(folder) / "run", progress=False)
            probabilities = load_file(Path(folder) / "run" / "probabilities.safetensors")["val"]
        val = load_data(reference.data, reference.optim.seed).val
        found = biased_pairs(*readable_rows(val.targets, probabilities.double().numpy()))
        write_record(
            path,
            {"pairs": pairs_to_json(found, val.class_names), "reference": reference.model.method},
            seconds=summary["seconds"],
            seed=reference.optim.seed,
        )
    return read_json(path, "the pairs of a study", SCHEMA)["results"]["pairs"]


def read_pairs(source: str | Path, class_names: Sequence[str]) -> Pairs:
    """Pairs of a file, or of a recorded study by its name.

    Args:
        source: a study's pairs.json, a JSON list of {"label": ..., "partner": ...}, or a name such
            as "voc2007_deit_tiny".
        class_names: K names of the data at hand.

    Raises:
        InputError: no such file or study, another content, or a class that the data lack.
    """
    path = Path(source)
    if not path.is_file():
        path = FOLDER / source / "pairs.json"
    if not path.is_file():
        known = sorted(found.parent.name for found in FOLDER.glob("*/pairs.json"))
        raise InputError(
            f"there are no pairs {source}: give a JSON file, or one of {', '.join(known)}."
        )
    alone = isinstance(read_json(path, "pairs of classes"), list)
    content = read_json(path, "pairs of classes", PAIRS if alone else SCHEMA)
    pairs = content if alone else content["results"]["pairs"]
    shipped = path.is_relative_to(FOLDER)
    shown = f"results/{path.relative_to(FOLDER).as_posix()}" if shipped else path.name
    return Pairs(pairs_from_json(pairs, class_names), shown)


def pairs_of_run(
    run: str | Path, class_names: Sequence[str], val_targets: ArrayLike | None
) -> Pairs | None:
    """The pairs that a run is measured on if none are given.

    Those of a recorded study whose classes the run has; else the most biased ones of the run's own
    model on the validation images that it held out.

    Args:
        run: folder of a finished run.
        class_names: K names.
        val_targets: (N, K) labels of its validation images; None if it trained on them.

    Returns:
        Pairs; None where no two classes share images enough, or nothing was held out.
    """
    for path in sorted(FOLDER.glob("*/pairs.json")):
        with suppress(InputError):  # pairs of other classes
            return read_pairs(path, class_names)
    stored = RunFolder(run).probabilities
    if val_targets is None or not stored.is_file():
        return None
    probabilities = load_file(stored)["val"].double().numpy()
    try:
        found = biased_pairs(*readable_rows(val_targets, probabilities))
    except InputError:  # too few images of any two classes
        return None
    return Pairs(
        [(pair["label"], pair["partner"]) for pair in found], "the run's own model, on val"
    )


def held_against(
    targets: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    pairs: Pairs,
    thresholds: ArrayLike | None,
    counts: ArrayLike,
) -> dict[str, Any]:
    """What co-occurrence does to a model's answers on one split, pair by pair, ready for JSON.

    Args:
        targets: (N, K) of 1, 0 and -1.
        probabilities: (N, K) in [0, 1]; rows of NaN are images that were skipped.
        class_names: K names.
        pairs: what is compared.
        thresholds: (K,) tuned on val; None: 0.5, and it is said.
        counts: (K, K) co-occurrence counts of the training labels, for the induced false positives.

    Returns:
        What `bias.claim` returns (co-occur and exclusive AP, conditional TPR and FPR with their
        controls, each with intervals), pairs_from, thresholds_from, and `induced`: what
        `metrics.induced_false_positives` returns, its pairs with names and the intervals of their
        rates, or None where no pair of the training labels can be compared.
    """
    rows = readable_rows(np.asarray(targets), np.asarray(probabilities))
    at = 0.5 if thresholds is None else np.asarray(thresholds)
    found = claim(*rows, pairs.indices, at, class_names=class_names)
    try:
        induced = induced_false_positives(*rows, counts, threshold=at)
    except InputError:  # no two classes co-occur often enough
        induced = None
    else:
        two = [(pair["label"], pair["partner"]) for pair in induced["pairs"]]
        rates = conditional_rates(*rows, two, at)
        for pair, rate in zip(induced["pairs"], rates["pairs"], strict=True):
            pair["rate_difference"] = rate["FPR_difference"]
            pair["rate_difference_interval"] = rate["FPR_difference_interval"]
        induced["rate_difference_interval"] = rates["FPR_difference_interval"]
        induced["pairs"] = pairs_to_json(induced["pairs"], class_names)
    tuned = "0.5 for every class" if thresholds is None else "tuned on val"
    return {"pairs_from": pairs.source, "thresholds_from": tuned, **found, "induced": induced}


def pairs_table(found: dict[str, Any]) -> str:
    """What `held_against` returned as an aligned table in percent, the mean in its last line."""
    columns = {
        "AP both": "cooccur_AP",
        "alone": "exclusive_AP",
        "matched difference": "AP_matched_difference",
        "TPR both": "TPR_with_partner",
        "alone ": "TPR_without_partner",
        "FPR partner": "FPR_with_partner",
        "neither": "FPR_without_partner",
        "difference": "FPR_difference",
    }
    table = [["class, its partner", *(name.strip() for name in columns)]]
    for pair in [*found["pairs"], {**found, "label": f"mean of {found['n_pairs']} pairs"}]:
        title = ", ".join(filter(None, (pair["label"], pair.get("partner"))))
        table.append([title, *(_cell(pair, name) for name in columns.values())])
    lines = [
        f"pairs of {found['pairs_from']}; thresholds: {found['thresholds_from']}",
        layout(table),
        "both: class and partner in the image; differences with 95% intervals",
    ]
    if found["induced"] is not None:
        induced = found["induced"]
        low, high = map(signed, induced["rate_difference_interval"])
        lines.append(
            f"a partner adds {signed(induced['rate_difference'])} ({low} to {high}) "
            f"points of false positives, over {induced['n_pairs']} pairs with P(class | partner) "
            f">= {induced['min_conditional']:g} in training"
        )
    return "\n".join(lines)


def _cell(values: dict[str, Any], name: str) -> str:
    """A fraction in percent, a difference with sign and interval, a dash where there is none."""
    if values[name] is None:
        return "-"
    if not name.endswith("_difference"):
        return f"{100 * values[name]:.1f}"
    interval = values.get(f"{name}_interval")
    text = signed(values[name])
    return text if interval is None else f"{text} ({' to '.join(map(signed, interval))})"
