"""Trained models that ship with the package, by name: the trained part of each, and its card.

A folder of results/models holds model.safetensors and config.json, as `save_pretrained` writes
them, card.json (numbers with the file they come from, hashes of the backbone) and README.md, the
card to read. data_prep/trained_model.py makes it of a finished run. The frozen backbone does not
ship: it comes by its name, or from a file.
"""

import warnings
from importlib import resources
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from mlvpt.backbones import tensor_hashes
from mlvpt.classifier import MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.files import read_json
from mlvpt.model import MLVPT

FOLDER = Path(str(resources.files("mlvpt.results"))) / "models"
CARD = "card.json"


def trained_names() -> list[str]:
    """Names of the trained models that ship with the package."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{CARD}"))


def trained_card(name: str) -> dict[str, Any]:
    """The card of a shipped model, as card.json holds it.

    Args:
        name: of `trained_names`.

    Returns:
        dict: name, data (a sentence), n_train and n_test images, backbone (name, sha256 of its
        weights and of each tensor), numbers (fractions on test, with the file, key and seed of the
        recorded run), thresholds {class: probability} tuned on val, run (command, commit, date,
        device, seconds), uses and not_for (sentences).

    Raises:
        InputError: no such model ships.
    """
    if name not in trained_names():
        known = ", ".join(trained_names()) or "none"
        raise InputError(f"no trained model {name!r} ships with the package; there are: {known}.")
    return read_json(FOLDER / name / CARD, "the card of a trained model")


def load_trained(
    name: str,
    *,
    backbone: VisionTransformer | None = None,
    backbone_checkpoint: str | Path | None = None,
) -> MultiLabelClassifier:
    """A trained model that ships with the package, in eval mode.

    The backbone's published weights are fetched by name, once, unless one is given. On a backbone
    of other weights the model loads all the same, and a warning names the tensors that differ: the
    numbers of its card are then not its own.

    Args:
        name: of `trained_names`, such as "voc2007_deit_tiny".
        backbone: the built backbone.
        backbone_checkpoint: the backbone's weight file, where there is no network.

    Raises:
        InputError: no such model ships, the backbone cannot be fetched, or its shape is another.
    """
    card = trained_card(name)
    model = MLVPT.from_pretrained(
        FOLDER / name,
        backbone=backbone,
        backbone_checkpoint=backbone_checkpoint,
        other_backbone=True,
    )
    trained_on, here = card["backbone"]["tensors"], tensor_hashes(model.vit)
    different = [each for each in trained_on if here.get(each) != trained_on[each]]
    if different:
        kind = "all of them in norms" if all("norm" in each for each in different) else "such as"
        warnings.warn(
            f"{name} was trained on other weights of {card['backbone']['name']}: "
            f"{len(different)} of {len(trained_on)} tensors differ ({kind}: "
            f"{', '.join(different[:3])}). The numbers of its card are not those of this backbone: "
            "measure it before you rely on it.",
            stacklevel=2,
        )
    return model
