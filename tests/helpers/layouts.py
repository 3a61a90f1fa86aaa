"""Miniature data sets in the layout of each real one, for tests: a few tiny images, every class.

Each `make_*` writes files under a folder and returns the targets that a loader must give back.
"""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)
VOC_CLASSES = VOC.split()
# The ids of COCO's 80 classes leave out ten numbers between 1 and 90.
COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
CONCEPTS = (
    "airport animal beach bear birds boats book bridge buildings cars castle cat cityscape clouds "
    "computer coral cow dancing dog earthquake elk fire fish flags flowers food fox frost garden "
    "glacier grass harbor horses house lake leaf map military moon mountain nighttime ocean person "
    "plane plants police protest railroad rainbow reflection road rocks running sand sign sky snow "
    "soccer sports statue street sun sunset surf swimmers tattoo temple tiger tower town toy train "
    "tree valley vehicle water waterfall wedding whales window zebra"
)
NUSWIDE_CONCEPTS = CONCEPTS.split()


def random_targets(n_images: int, n_classes: int, seed: int = 0) -> np.ndarray:
    """(n_images, n_classes) int8 in {0, 1}, with a positive in every row and every column."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n_images, n_classes)) < 0.08).astype(np.int8)
    for k in range(max(n_images, n_classes)):
        targets[k % n_images, k % n_classes] = 1
    return targets


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
    """A small colour image of noise, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def make_voc(
    root: Path,
    year: int = 2007,
    sizes: dict[str, int] | None = None,
    class_names: list[str] | None = None,
    suffix: str = ".jpg",
    annotations: bool = True,
    label_files: bool = True,
    images: bool = True,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """root/VOCdevkit/VOC<year>.

    Args:
        root: the folder that the loader is given.
        sizes: images of train, val and (2007) test; trainval is train and val together.
        class_names: default: the 20 of VOC.
        suffix: of the image files.
        annotations, label_files, images: which parts to write.

    Returns:
        Labels as the devkit writes them, for each split: 1, -1, and 0 where only difficult ones.
    """
    names = class_names or VOC_CLASSES
    sizes = sizes or {"train": 12, "val": 10, "test": 10}
    base = root / "VOCdevkit" / f"VOC{year}"
    sets = base / "ImageSets" / "Main"
    for folder in (base / "JPEGImages", base / "Annotations", sets):
        folder.mkdir(parents=True, exist_ok=True)
    ids: dict[str, list[str]] = {}
    labels: dict[str, np.ndarray] = {}
    for number, (split, n_images) in enumerate(sizes.items()):
        ids[split] = [f"{number}{i:05d}" for i in range(n_images)]
        values = random_targets(n_images, len(names), seed + number).astype(int) * 2 - 1
        # The class after an image's first positive one is there, but difficult.
        for row in values:
            column = (int(np.flatnonzero(row == 1)[0]) + 1) % len(names)
            if row[column] == -1:
                row[column] = 0
        labels[split] = values
        for i, image_id in enumerate(ids[split]):
            if images:
                save_image(base / "JPEGImages" / f"{image_id}{suffix}", seed + i)
            if annotations:
                objects = "".join(
                    f"<object><name>{names[k]}</name><difficult>{d}</difficult></object>"
                    for k in np.flatnonzero(values[i] >= 0)
                    # A positive class has difficult objects as well, before and after.
                    for d in ((1,) if values[i, k] == 0 else (1, 0, 1))
                )
                text = f"<annotation><filename>{image_id}</filename>{objects}</annotation>"
                (base / "Annotations" / f"{image_id}.xml").write_text(text)
    if {"train", "val"} <= set(sizes):
        ids["trainval"] = ids["train"] + ids["val"]
        labels["trainval"] = np.concatenate([labels["train"], labels["val"]])
    for split, values in labels.items():
        (sets / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids[split]))
        for k, name in enumerate(names if label_files else ()):
            lines = (f"{i} {v:2d}\n" for i, v in zip(ids[split], values[:, k], strict=True))
            (sets / f"{name}_{split}.txt").write_text("".join(lines))
    return labels


def make_coco(
    root: Path,
    year: int = 2014,
    sizes: dict[str, int] | None = None,
    n_empty: int = 1,
    images: bool = True,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """root/annotations and root/train<year>, root/val<year>; `n_empty` images have no object.

    Returns:
        (N, 80) targets of the images with an object, for each split.
    """
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    result = {}
    for number, (split, n_images) in enumerate((sizes or {"train": 12, "val": 10}).items()):
        targets = random_targets(n_images, 80, seed + number)
        name = f"{split}{year}"
        prefix = f"COCO_{name}_" if year == 2014 else ""
        listed = []
        for i in range(n_images + n_empty):
            file_name = f"{prefix}{i + 1:012d}.jpg"
            listed.append({"id": 1000 * number + i, "file_name": file_name, "width": 40})
            if images:
                save_image(root / name / file_name, seed + i)
        objects = [
            {
                "segmentation": [[1.5, 2.0, 3.25, 4e0]]
                if k % 2
                else {"counts": [1, 2], "size": [2, 2]},
                "iscrowd": int(k % 2 == 0),
                "image_id": 1000 * number + int(i),
                "bbox": [0.0, 1.0, 2.0, 3.0],
                "category_id": COCO_IDS[k],
                "id": j,
            }
            for j, (i, k) in enumerate(np.argwhere(targets).tolist())
        ]
        objects += objects[:3]  # a class can have several objects in an image
        categories = [{"id": i, "name": f"thing {i}", "supercategory": "all"} for i in COCO_IDS]
        content = {"images": listed, "annotations": objects, "categories": categories[::-1]}
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
        result[split] = targets
    return result


def make_nuswide(
    root: Path, sizes: dict[str, int] | None = None, images: bool = True, seed: int = 0
) -> dict[str, np.ndarray]:
    """root/ConceptsList, ImageList, Groundtruth/TrainTestLabels, Flickr; paths with backslashes.

    Returns:
        (N, 81) targets for "train" and "test".
    """
    for folder in ("ConceptsList", "ImageList", "Groundtruth/TrainTestLabels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "ConceptsList" / "Concepts81.txt").write_text("\r\n".join(NUSWIDE_CONCEPTS) + "\r\n")
    result = {}
    for number, (split, n_images) in enumerate((sizes or {"train": 12, "test": 10}).items()):
        targets = random_targets(n_images, len(NUSWIDE_CONCEPTS), seed + number)
        names = [f"{('actor', 'zoo')[i % 2]}\\{i:04d}_{number}77.jpg" for i in range(n_images)]
        part = split.capitalize()
        text = "".join(f"{name}\r\n" for name in names)
        (root / "ImageList" / f"{part}Imagelist.txt").write_text(text)
        for k, concept in enumerate(NUSWIDE_CONCEPTS):
            path = root / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
            path.write_text("".join(f"{value}\n" for value in targets[:, k]))
        for i, name in enumerate(names if images else ()):
            save_image(root / "Flickr" / name.replace("\\", "/"), seed + i)
        result[split] = targets
    return result


def make_visual_genome(
    root: Path, n_images: int = 40, n_names: int = 300, images: bool = True, seed: int = 0
) -> np.ndarray:
    """root/image_data.json, objects.json, vg256.json, VG_100K, VG_100K_2.

    The class list has the first 256 names, each alone.

    Returns:
        (n_images, n_names) whether image i+1 has an object called "name <k>", k from 0.
    """
    root.mkdir(parents=True, exist_ok=True)
    targets = random_targets(n_images, n_names, seed)
    listed, objects = [], []
    for i in range(n_images):
        folder = ("VG_100K", "VG_100K_2")[i % 2]
        listed.append({"image_id": i + 1, "url": f"https://host/{folder}/{i + 1}.jpg"})
        named = [{"names": [f" Name  {k} ", "alias"]} for k in np.flatnonzero(targets[i])]
        objects.append({"image_id": i + 1, "objects": [*named, *named[:1], {"names": []}]})
        if images:
            save_image(root / folder / f"{i + 1}.jpg", seed + i)
    (root / "image_data.json").write_text(json.dumps(listed))
    (root / "objects.json").write_text(json.dumps(objects))
    classes = {f"name {k}": [f"name  {k}"] for k in range(min(n_names, 256))}
    (root / "vg256.json").write_text(json.dumps(classes))
    return targets


def make_manifest(root: Path, n_images: int = 12, n_classes: int = 4, seed: int = 0) -> Path:
    """root/pictures/*.jpg and root/labels.csv with the columns path and labels; returns the CSV."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"label {k}" for k in range(n_classes)]
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels"])
        for i, row in enumerate(random_targets(n_images, n_classes, seed)):
            save_image(root / "pictures" / f"{i}.jpg", seed + i)
            labels = ";".join(name for name, value in zip(names, row, strict=True) if value)
            writer.writerow([f"pictures/{i}.jpg", labels])
    return root / "labels.csv"
