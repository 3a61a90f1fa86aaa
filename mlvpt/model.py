"""ML-VPT: label groups, prompts, experts, and the prediction that averages two views.

Source: Ma, Xu, Xie, Wang, Sun, Zhao, "Correlative and Discriminative Label Grouping for
Multi-Label Visual Prompt Tuning", CVPR 2025, arXiv 2504.09990.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.classifier import MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.experts import GroupExperts
from mlvpt.labels import LabelGroups
from mlvpt.prompts import PromptedViT


@dataclass
class MLVPTOutput:
    """What one forward pass gives. A view that is switched off leaves its fields None.

    Attributes:
        logits: (B, K) the prediction, the mean of the views' logits.
        co_logits, dc_logits: (B, K) logits of the CO and the DC branch.
        co_gate_logits, dc_gate_logits: (B, K) auxiliary logits of the gates, trained, not used
            for prediction.
        co_gates, dc_gates: (B, K, E) weight of each expert for each class; rows sum to 1.
    """

    logits: Tensor
    co_logits: Tensor | None = None
    dc_logits: Tensor | None = None
    co_gate_logits: Tensor | None = None
    dc_gate_logits: Tensor | None = None
    co_gates: Tensor | None = None
    dc_gates: Tensor | None = None


class MLVPT(MultiLabelClassifier):
    """A frozen Vision Transformer with prompt tokens per label group and experts per class.

    Args:
        backbone: a timm name, "scenes" for the tiny one in the package, or a built
            VisionTransformer. See `mlvpt.backbones.create_backbone`.
        groups: the CO and DC groups of the K classes.
        experts_per_group: E, prompt tokens of one group. Default 3, paper.
        bottleneck: hidden width of an expert's adapter. Default 5, official release.
        views: which partitions to use; both in the paper, one for ablations.
        gate: "dense", "mean" or "top1", see `GroupExperts`.
        depth, isolate_prompts, norm_output: see `PromptedViT`.
        pretrained, image_size, backbone_checkpoint: see `create_backbone`.

    Raises:
        InputError: an option is unknown, or the backbone cannot be prompted.

    Example:
        >>> import torch
        >>> from mlvpt import LabelGroups
        >>> groups = LabelGroups(co=[0, 0, 1], dc=[0, 1, 1], n_groups=2)
        >>> model = MLVPT("scenes", groups, experts_per_group=2)
        >>> out = model(torch.zeros(4, 3, 48, 48))
        >>> out.logits.shape, out.co_gates.shape
        (torch.Size([4, 3]), torch.Size([4, 3, 2]))
    """

    def __init__(
        self,
        backbone: str | VisionTransformer,
        groups: LabelGroups,
        *,
        experts_per_group: int = 3,
        bottleneck: int = 5,
        views: Sequence[str] = ("co", "dc"),
        gate: str = "dense",
        depth: str | int = "deep",
        isolate_prompts: bool = True,
        norm_output: bool | None = None,
        pretrained: bool = True,
        image_size: int | Sequence[int] | None = None,
        backbone_checkpoint: str | Path | None = None,
    ) -> None:
        views = tuple(views)
        if views not in (("co", "dc"), ("co",), ("dc",)):
            raise InputError(f"views is {views}: choose ('co', 'dc'), ('co',) or ('dc',).")
        names = groups.class_names or tuple(f"class {k}" for k in range(len(groups.co)))
        super().__init__(
            backbone,
            names,
            groups=groups,
            pretrained=pretrained,
            image_size=image_size,
            backbone_checkpoint=backbone_checkpoint,
        )
        tokens_per_view = groups.n_groups * experts_per_group
        self.backbone = PromptedViT(
            self._built.pop(),
            len(views) * tokens_per_view,
            depth=depth,
            isolate_prompts=isolate_prompts,
            norm_output=norm_output,
        )
        partitions = {"co": groups.co, "dc": groups.dc}
        self.experts = nn.ModuleDict(
            {
                view: GroupExperts(
                    partitions[view],
                    experts_per_group,
                    self.backbone.embed_dim,
                    bottleneck=bottleneck,
                    gate=gate,
                )
                for view in views
            }
        )
        self.options = {
            "experts_per_group": experts_per_group,
            "bottleneck": bottleneck,
            "views": list(views),
            "gate": gate,
            "depth": depth,
            "isolate_prompts": isolate_prompts,
            "norm_output": self.backbone.norm_output,
        }

    @property
    def prompted_vit(self) -> PromptedViT:
        """The frozen backbone with its prompts."""
        return self.backbone

    @property
    def vit(self) -> VisionTransformer:
        """The frozen timm model inside."""
        return self.backbone.backbone

    def forward(self, images: Tensor) -> MLVPTOutput:
        """Score every class in every image.

        Args:
            images: (B, 3, H, W) float, normalised with the model's `mean` and `std`.
        """
        tokens = self.backbone(images)  # (B, P, D): the CO groups' tokens, then the DC groups'
        per_view = tokens.chunk(len(self.experts), dim=1)  # each (B, G * E, D)
        branches, fields = [], {}
        for (view, experts), view_tokens in zip(self.experts.items(), per_view, strict=True):
            logits, gate_logits, gates = experts(view_tokens)
            branches.append(logits)
            fields |= {f"{view}_logits": logits, f"{view}_gate_logits": gate_logits}
            fields[f"{view}_gates"] = gates
        return MLVPTOutput(logits=sum(branches) / len(branches), **fields)

    def attention(self, images: Tensor) -> Tensor:
        """Attention of every group's prompts on the patches: (B, views, G, h, w).

        The mean over heads and over the group's experts, in the last block.
        """
        maps = self.backbone.attention(images)  # (B, P, h, w)
        shape = (len(self.experts), self.groups.n_groups, -1)
        return maps.unflatten(1, shape).mean(dim=3)  # (B, views, G, E, h, w) -> (B, views, G, h, w)

    @classmethod
    def _rebuild(cls, backbone, config: dict[str, Any], **keywords: Any) -> "MLVPT":
        return cls(
            backbone, LabelGroups.from_dict(config["groups"]), **config["options"], **keywords
        )
