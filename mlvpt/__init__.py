"""ML-VPT: multi-label visual prompt tuning with correlative and discriminative label groups.

The names below are loaded when they are first used, so that `import mlvpt` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "LabelGroups": "labels",
    "group_labels": "grouping",
    "label_statistics": "datasets.shipped",
    "load_trained": "inference.trained",
    "MLVPT": "model",
    "MLVPTOutput": "model",
    "PromptedViT": "prompts",
    "GroupExperts": "experts",
    "AsymmetricLoss": "losses",
    "MLVPTLoss": "losses",
    "multilabel_metrics": "metrics",
    "average_precision": "metrics",
    "InputError": "errors",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:  # editors read these
    from mlvpt.datasets.shipped import label_statistics as label_statistics
    from mlvpt.errors import InputError as InputError
    from mlvpt.experts import GroupExperts as GroupExperts
    from mlvpt.grouping import group_labels as group_labels
    from mlvpt.inference.trained import load_trained as load_trained
    from mlvpt.labels import LabelGroups as LabelGroups
    from mlvpt.losses import AsymmetricLoss as AsymmetricLoss
    from mlvpt.losses import MLVPTLoss as MLVPTLoss
    from mlvpt.metrics import average_precision as average_precision
    from mlvpt.metrics import multilabel_metrics as multilabel_metrics
    from mlvpt.model import MLVPT as MLVPT
    from mlvpt.model import MLVPTOutput as MLVPTOutput
    from mlvpt.prompts import PromptedViT as PromptedViT


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
