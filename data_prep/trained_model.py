"""A trained model that ships with the package by name, made of a finished run.

    mlvpt train --recipe voc2007_deit_tiny --data.root DIR --data.hold_out false --out runs/voc
    python data_prep/trained_model.py runs/voc --name voc2007_deit_tiny

writes results/models/voc2007_deit_tiny: the trained part (less than 1 MB), its configuration, and a
model card as JSON and as text. The run must be one of the recorded runs, made again: the numbers of
the card are those of the row in results/NAME/baselines.jsonl with the same settings, and the run's
own mAP must agree with it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mlvpt.backbones import backbone_hash, tensor_hashes
from mlvpt.errors import InputError
from mlvpt.files import read_json, write_json, write_text
from mlvpt.inference.trained import CARD
from mlvpt.studies.grid import key_of, read_rows
from mlvpt.training import recipes
from mlvpt.training.build import load_model
from mlvpt.training.config import FREE_ON_RESUME, flatten
from mlvpt.training.folder import RunFolder, read_split

ROOT = Path(__file__).parents[1]
LARGEST = 10**6  # bytes
AGREEMENT = 1e-3  # of mAP: what another processor may change
RECORDED = ("command", "commit", "date", "device", "versions", "seconds")
DATA = {
    "voc2007_deit_tiny": "PASCAL VOC2007 trainval without three photographs (005042, 007284, "
    "009623), 20 classes, scaled to a short side of 224 pixels; 'difficult' objects ignored.",
    "clothing_deit_tiny": "Clothing Co-Parsing, 47 tags with at least 40 photographs, the train "
    "part of a random split (results/README.md).",
}
USES = [
    "Reading the method: groups, gates and attention of a model that was trained on photographs.",
    "Repeating the recorded numbers, and as a start for experiments.",
]
NOT_FOR = [
    "Decisions about people: it was never tested for that, and it leans on what usually stands "
    "together (test_pairs of the recorded row).",
    "A product: the backbone is the smallest of its family, and larger ones are far better.",
    "Comparison with the paper's numbers, which are those of ViT-B.",
    "Pictures unlike the training photographs: probabilities are not calibrated.",
]
MORE_NOT_FOR = {
    "clothing_deit_tiny": [
        "Statements about somebody's style, gender or origin: 2,098 photographs of street fashion "
        "bloggers stand for nobody else.",
        "Tagging: see CF1 and OF1.",
    ],
}


def ship(run: Path, name: str, records: Path, out: Path) -> Path:
    """Write the model of a run, and its card, into a folder of trained models.

    Args:
        run: folder of a finished run.
        name: of the model.
        records: the study's file that holds the run's row.
        out: folder of all trained models.

    Returns:
        The folder of this one.

    Raises:
        InputError: the run is not complete, is none of the recorded ones or differs from its row;
            the trained part is too large.
    """
    folder = RunFolder(run)
    if not folder.summary.is_file():
        raise InputError(f"{run} is not complete: it has no summary.json.")
    config = recipes.load(folder.config)
    folder.check_settings(config)
    row = recorded_row(config, records)
    summary = read_json(folder.summary, "the summary of the run")
    test = summary["results"]["metrics"]["test"]
    if abs(test["mAP"] - row["test_mAP"]) > AGREEMENT:
        raise InputError(
            f"{run} has a test mAP of {test['mAP']:.4f}, but its row in {records} has "
            f"{row['test_mAP']:.4f}: they are not the same run."
        )
    model = load_model(run)
    if model.backbone_source == "file":  # the same weights are found by name, nearly
        model.backbone_source = "pretrained"
    size = sum(tensor.nbytes for tensor in model.trained_state().values())
    if size > LARGEST:
        raise InputError(f"the trained part has {size:,} bytes: more than {LARGEST:,} do not ship.")
    home = out / name
    model.save_pretrained(home)
    numbers = ("test_mAP", "test_mAP_interval", "test_CF1", "test_OF1")
    card = {
        "name": name,
        "data": DATA[name],
        "n_train": len(read_split(folder.split)["train"]),
        "n_test": test["n_images"],
        "backbone": {
            "name": model.backbone_name,
            "sha256": backbone_hash(model.vit),
            "tensors": tensor_hashes(model.vit),
        },
        "numbers": {
            "file": "/".join(records.parts[-3:]),
            "key": row["key"],
            "seed": row["seed"],
            **{each: row[each] for each in numbers},
        },
        "thresholds": dict(zip(model.class_names, row["thresholds"], strict=True)),
        "run": {each: summary[each] for each in RECORDED},
        "uses": USES,
        "not_for": [*NOT_FOR, *MORE_NOT_FOR.get(name, [])],
    }
    write_json(home / CARD, card)
    write_text(home / "README.md", card_text(card, model.n_trainable))
    return home


def recorded_row(config: Any, records: Path) -> dict[str, Any]:
    """The row of the run with these settings, wherever its files lay."""
    nowhere = dict.fromkeys(FREE_ON_RESUME)

    def settings_key(settings: dict[str, Any]) -> str:
        return key_of({**settings, **nowhere}, prune=False)

    wanted = settings_key(flatten(config))
    for row in read_rows(records):
        if "error" not in row and "config" in row and settings_key(row["config"]) == wanted:
            return row
    raise InputError(f"{records} has no run with these settings: ship a run that is recorded.")


def card_text(card: dict[str, Any], n_trained: int) -> str:
    """The model card to read, in Markdown."""
    numbers, run = card["numbers"], card["run"]
    low, high = numbers["test_mAP_interval"]
    lines = [
        f"# {card['name']}",
        "",
        f"The trained part of an ML-VPT, {n_trained:,} numbers, on a frozen "
        f"`{card['backbone']['name']}`.",
        "",
        "```python",
        "import mlvpt",
        "",
        f'model = mlvpt.load_trained("{card["name"]}")  # fetches the backbone once',
        'model.predict("picture.jpg")',
        "```",
        "",
        'Without a network, give `backbone_checkpoint="FILE"`. The backbone that it was trained on '
        "has the published weight matrices and rounded norms, so the published weights differ in "
        "those: loading says so, and the numbers below are then not quite the model's.",
        "",
        "## Data",
        "",
        f"{card['data']} Trained on {card['n_train']:,} images, measured on {card['n_test']:,}.",
        "",
        "## Numbers",
        "",
        "| test | % |",
        "| --- | ---: |",
        f"| mAP | {100 * numbers['test_mAP']:.1f} (95% interval {100 * low:.1f} to "
        f"{100 * high:.1f}) |",
        f"| CF1 | {100 * numbers['test_CF1']:.1f} |",
        f"| OF1 | {100 * numbers['test_OF1']:.1f} |",
        "",
        f"From `{numbers['file']}`, the row with the key {numbers['key']} (seed "
        f"{numbers['seed']}). CF1 and OF1 are at the thresholds in card.json, which another run "
        "tuned on held-out training images.",
        "",
        "## How it was trained",
        "",
        f"`{run['command']}`, commit {run['commit']}, {run['date']}, {run['device']}, "
        f"{run['seconds']:.0f} seconds. Backbone: SHA-256 {card['backbone']['sha256']}.",
        "",
        "## What it is for",
        "",
        *(f"- {each}" for each in card["uses"]),
        "",
        "## What it must not be used for",
        "",
        *(f"- {each}" for each in card["not_for"]),
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--name", required=True, choices=sorted(DATA))
    parser.add_argument("--records", type=Path, help="default: results/NAME/baselines.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "models")
    options = parser.parse_args(argv)
    records = options.records or ROOT / "results" / options.name / "baselines.jsonl"
    try:
        print(ship(options.run, options.name, records, options.out))
    except InputError as error:
        print(f"trained_model.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
