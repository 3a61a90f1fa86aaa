"""DigitScenes as files, in the layout of the VOC devkit or of COCO.

The loaders of real data are tested with these from end to end. Images are PNG, lossless, so that
what is loaded back is the same to the pixel (VOC and COCO themselves hold JPEG).
"""

import io
import json
from pathlib import Path
from xml.sax.saxutils import escape

from mlvpt.datasets.scenes import CLASS_NAMES, SIZE, SPLIT_SIZES, DigitScenes, load_scenes
from mlvpt.errors import InputError
from mlvpt.files import read_json, write_bytes, write_json, write_text

LAYOUTS = ("voc", "coco")
MARKER = "digit_scenes.json"  # marks a folder as an export and holds its settings


def export_scenes(
    root: str | Path, layout: str = "voc", seed: int = 0, n_images: int | None = None
) -> Path:
    """Write scenes as files in a layout that `load_voc` or `load_coco` reads.

    ```
    layout="voc"                                  layout="coco"
    root/VOCdevkit/VOC2007/                       root/
      JPEGImages/train_000000.png                   train2014/train_000000.png
      Annotations/train_000000.xml                  annotations/instances_train2014.json
      ImageSets/Main/train.txt, 3_train.txt         (and val, test, test_shifted)
      (and val, trainval, test, test_shifted)
    ```

    Args:
        root: folder to write; made if missing. It must be empty or hold an earlier export with
            the same settings, which is then completed.
        layout: "voc" or "coco".
        seed: as in `load_scenes`.
        n_images: per split; None: the usual sizes.

    Returns:
        `root`, for `load_voc(root, split)` or `load_coco(root, split)`.

    Raises:
        InputError: unknown layout, or a folder that holds something else.
    """
    if layout not in LAYOUTS:
        raise InputError(f"there is no layout {layout!r}: use one of {', '.join(LAYOUTS)}.")
    scenes = {split: load_scenes(split, n_images, seed) for split in SPLIT_SIZES}
    root = Path(root)
    settings = {
        "made_by": "mlvpt scenes export",
        "layout": layout,
        "images": {split: len(dataset) for split, dataset in scenes.items()},
        "seed": seed,
        "strength": 1.0,
    }
    _claim(root, settings)
    write = _write_voc if layout == "voc" else _write_coco
    write(root, scenes)
    return root


def _claim(root: Path, settings: dict) -> None:
    """Mark `root` as an export with these settings, or refuse a folder that holds anything else."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: name a folder to export to.")
    marker = root / MARKER
    if marker.is_file():
        try:
            earlier = read_json(marker, "the settings of an export")
        except InputError:
            earlier = None
        if earlier != settings:
            raise InputError(
                f"{root} holds scenes that were exported with other settings (see {marker.name}): "
                "remove it, or choose another folder."
            )
    elif root.exists() and any(root.iterdir()):
        raise InputError(f"{root} is not empty and holds no exported scenes: choose a new folder.")
    root.mkdir(parents=True, exist_ok=True)
    write_json(marker, settings)


def _write_images(folder: Path, dataset: DigitScenes) -> None:
    for index, image_id in enumerate(dataset.image_ids):
        content = io.BytesIO()
        dataset.load_image(index).save(content, format="PNG")
        write_bytes(folder / f"{image_id}.png", content.getvalue())


def _write_voc(root: Path, scenes: dict[str, DigitScenes]) -> None:
    base = root / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / name).mkdir(parents=True, exist_ok=True)
    labels: dict[str, list[tuple[str, list[int]]]] = {}
    for split, dataset in scenes.items():
        _write_images(base / "JPEGImages", dataset)
        for index, image_id in enumerate(dataset.image_ids):
            write_text(
                base / "Annotations" / f"{image_id}.xml",
                _voc_annotation(image_id, dataset.boxes(index)),
            )
        labels[split] = list(zip(dataset.image_ids, dataset.targets.tolist(), strict=True))
    labels["trainval"] = labels["train"] + labels["val"]
    sets = base / "ImageSets" / "Main"
    for split, rows in labels.items():
        write_text(sets / f"{split}.txt", "".join(f"{image_id}\n" for image_id, _ in rows))
        for k, name in enumerate(CLASS_NAMES):
            # The devkit writes -1 for absent; 0, difficult objects only, does not occur here.
            lines = [f"{image_id} {1 if row[k] else -1:2d}\n" for image_id, row in rows]
            write_text(sets / f"{name}_{split}.txt", "".join(lines))


def _voc_annotation(image_id: str, boxes: list[tuple[int, int, int, int, int]]) -> str:
    """Annotation XML; VOC counts pixels from 1 and includes both ends of a box."""
    objects = "".join(
        f"  <object>\n    <name>{CLASS_NAMES[k]}</name>\n    <difficult>0</difficult>\n"
        f"    <bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>\n  </object>\n"
        for k, x0, y0, x1, y1 in boxes
    )
    return (
        f"<annotation>\n  <folder>VOC2007</folder>\n  <filename>{escape(image_id)}.png</filename>\n"
        f"  <size><width>{SIZE}</width><height>{SIZE}</height><depth>3</depth></size>\n"
        f"{objects}</annotation>\n"
    )


def _write_coco(root: Path, scenes: dict[str, DigitScenes]) -> None:
    for split, dataset in scenes.items():
        _write_images(root / f"{split}2014", dataset)
        objects = [(index, box) for index in range(len(dataset)) for box in dataset.boxes(index)]
        content = {
            "info": {"description": f"DigitScenes {split}", "version": "1.0"},
            "images": [
                {"id": index + 1, "file_name": f"{image_id}.png", "width": SIZE, "height": SIZE}
                for index, image_id in enumerate(dataset.image_ids)
            ],
            "categories": [
                {"id": k + 1, "name": name, "supercategory": "digit"}
                for k, name in enumerate(CLASS_NAMES)
            ],
            "annotations": [
                {
                    "id": number,
                    "image_id": index + 1,
                    "category_id": k + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                }
                for number, (index, (k, x0, y0, x1, y1)) in enumerate(objects, start=1)
            ],
        }
        (root / "annotations").mkdir(exist_ok=True)
        write_text(root / "annotations" / f"instances_{split}2014.json", json.dumps(content))
