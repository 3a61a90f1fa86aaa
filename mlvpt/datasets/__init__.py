"""Data sets: one class, `MultiLabelDataset`, and a loader for each source.

Loaders read labels; an image file is opened when it is asked for.
"""

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.cache import DecodedCache
from mlvpt.datasets.check import Problem, check_dataset, check_splits, require_trainable
from mlvpt.datasets.coco import load_coco, load_coco_json
from mlvpt.datasets.export import export_scenes
from mlvpt.datasets.huggingface import load_huggingface
from mlvpt.datasets.manifest import load_manifest
from mlvpt.datasets.nuswide import load_nuswide
from mlvpt.datasets.scenes import load_scenes
from mlvpt.datasets.splits import Splits, load_splits, stratified_split
from mlvpt.datasets.visual_genome import load_vg256, load_visual_genome
from mlvpt.datasets.voc import load_voc

__all__ = [
    "DecodedCache",
    "MultiLabelDataset",
    "Problem",
    "Splits",
    "check_dataset",
    "check_splits",
    "export_scenes",
    "load_coco",
    "load_coco_json",
    "load_huggingface",
    "load_manifest",
    "load_nuswide",
    "load_scenes",
    "load_splits",
    "load_vg256",
    "load_visual_genome",
    "load_voc",
    "require_trainable",
    "stratified_split",
]
