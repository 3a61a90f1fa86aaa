"""The pairs of classes on which co-occurrence is held against a model, fixed once for a study."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file

from mlvpt.bias import biased_pairs, pairs_to_json
from mlvpt.files import read_json
from mlvpt.training.config import TrainConfig
from mlvpt.training.data import load_data
from mlvpt.training.evaluation import readable_rows
from mlvpt.training.loop import train
from mlvpt.training.record import write_record


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
    return read_json(path, "the pairs of a study")["results"]["pairs"]
