"""ML-VPT: label groups, prompts, experts, and the prediction that averages two views.

Source: Ma, Xu, Xie, Wang, Sun, Zhao, "Correlative and Discriminative Label Grouping for
Multi-Label Visual Prompt Tuning", CVPR 2025, arXiv 2504.09990.
"""

from collections.abc import Sequence
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.backbones import build_backbone
from mlvpt.classifier import Output, PromptedClassifier
from mlvpt.errors import InputError
from mlvpt.experts import GroupExperts
from mlvpt.labels import LabelGroups
from mlvpt.losses import MLVPTLoss
from mlvpt.prompts import PromptedViT

MLVPTOutput = Output  # the name in version 0.1


class MLVPT(PromptedClassifier, methods=("mlvpt",)):
    """A frozen Vision Transformer with prompt tokens per label group and experts per class.

    Args:
        backbone: a timm name, "scenes" for the tiny one in the package, or a built
            VisionTransformer.
        groups: the CO and DC groups of the K classes.
        experts_per_group: E, prompt tokens of one group. Default 3, paper.
        bottleneck: hidden width of an expert's adapter. Default 5, official release.
        views: which partitions to use; both in the paper, one for ablations.
        gate: "dense", "mean" or "top1", see `GroupExperts`.
        depth, isolate_prompts, norm_output: see `PromptedViT`.
        source: `pretrained`, `image_size`, `backbone_checkpoint` of
            `mlvpt.backbones.build_backbone`, with the name of a backbone.

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

    settings = (
        "experts_per_group",
        "bottleneck",
        "views",
        "gate",
        "depth",
        "isolate_prompts",
        "norm_output",
    )

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
        **source: Any,
    ) -> None:
        views = tuple(views)
        if views not in (("co", "dc"), ("co",), ("dc",)):
            raise InputError(f"views is {views}: choose ('co', 'dc'), ('co',) or ('dc',).")
        if not isinstance(groups, LabelGroups):
            raise InputError(
                f"groups must be LabelGroups, as group_labels gives them, not {groups!r:.80}; for "
                "a model without groups, give mlvpt.labels.single_group(n_classes)."
            )
        names = groups.class_names or tuple(f"class {k}" for k in range(len(groups.co)))
        vit, origin = build_backbone(backbone, **source)
        super().__init__(vit, origin, names, groups=groups)
        tokens_per_view = groups.n_groups * experts_per_group
        self.backbone = PromptedViT(
            vit,
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

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Output | dict[str, Tensor]:
        """Score every class in every image.

        Args:
            images: (B, 3, H, W) float, normalised with the model's `mean` and `std`.
            labels: (B, K) in {1, 0, -1}. With them the answer is what Hugging Face's Trainer
                reads, a dict of "loss" (`MLVPTLoss` with its defaults) and "logits".
        """
        tokens = self.backbone(images)  # (B, P, D): the CO groups' tokens, then the DC groups'
        per_view = tokens.chunk(len(self.experts), dim=1)  # each (B, G * E, D)
        branches, fields = [], {}
        for (view, experts), view_tokens in zip(self.experts.items(), per_view, strict=True):
            logits, gate_logits, gates = experts(view_tokens)
            branches.append(logits)
            # one by one: torch 2.4 cannot export a dict that another is merged into
            fields[f"{view}_logits"] = logits
            fields[f"{view}_gate_logits"] = gate_logits
            fields[f"{view}_gates"] = gates
        output = Output(logits=sum(branches) / len(branches), **fields)
        if labels is None:
            return output
        return {"loss": MLVPTLoss()(output, labels), "logits": output.logits}

    def attention(self, images: Tensor) -> Tensor:
        """Attention of every group's prompts on the patches: (B, views, G, h, w).

        The mean over heads and over the group's experts, in the last block.
        """
        maps = self.backbone.attention(images)  # (B, P, h, w)
        shape = (len(self.experts), self.groups.n_groups, -1)
        return maps.unflatten(1, shape).mean(dim=3)  # (B, views, G, E, h, w) -> (B, views, G, h, w)

    @classmethod
    def _make(cls, backbone, class_names, groups: LabelGroups, **keywords: Any) -> "MLVPT":
        return cls(backbone, groups, **keywords)  # the groups carry the names
