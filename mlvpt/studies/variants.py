"""The named variants that studies compare: methods, and ML-VPT with one part changed at a time.

Variants that ask about a number are relative to the base, so that "as many prompts" is true of
every base: of the embedded scenes (4 groups of 2 experts a view) and of photographs (5 of 3).
"""

import dataclasses
from typing import Any

from mlvpt.baselines import BASELINES
from mlvpt.datasets.shipped import AUTHORS
from mlvpt.training.config import TrainConfig

GROUPS = (2, 3, 5, 8, 13)  # numbers that the authors released groups for
BASE = "mlvpt"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named change to the settings of the base run.

    Attributes:
        name: in tables and rows.
        changes: settings by dotted name.
        question: what it asks.
        paper: the paper's own ablation covers it (section 4.3); otherwise it is ours.
        prune: E2VPT's second phase, see `grid.Job`.
    """

    name: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    question: str = ""
    paper: bool = False
    prune: bool = False


def model_variant(name: str, question: str, paper: bool = False, **changes: Any) -> Variant:
    """A variant that changes settings of the model."""
    return Variant(name, {f"model.{k}": v for k, v in changes.items()}, question, paper)


def _loss(name: str, question: str, paper: bool = False, **changes: Any) -> Variant:
    return Variant(name, {f"loss.{k}": v for k, v in changes.items()}, question, paper)


# prompts before the first block change every token behind it: none can be kept
FROM_THE_FIRST = ("vpt_shallow", "gate_vpt")
METHODS = (
    Variant(BASE, {}, "ML-VPT"),
    *(
        Variant(
            name,
            {"model.method": name} | ({"data.token_cache": None} if name in FROM_THE_FIRST else {}),
            kind.__name__,
        )
        for name, kind in BASELINES.items()
    ),
)
PRUNED = Variant("e2vpt_pruned", {"model.method": "e2vpt"}, "E2VPT, pruned and rewound", prune=True)
POOLED = ("linear_probe", "vpt_deep", "full_finetuning")


def ablation_variants(base: TrainConfig) -> tuple[Variant, ...]:
    """ML-VPT with one part changed at a time.

    A variant that equals the base, such as five groups where the base has five, is listed all the
    same; a study makes it once. Scenes keep the variants that were recorded. Photographs have more
    numbers of experts, a tau for each view and, where the authors released groups, those.

    Args:
        base: the run that is varied.
    """
    model, scenes = base.model, base.data.name == "scenes"
    experts, groups = model.experts_per_group, model.n_groups
    make = model_variant
    more_experts = (1, 3, 4) if scenes else (1, 2, 3, 4, 6, 8)
    # tau was called root when the runs on scenes were recorded: their rows keep the names
    tau = "root" if scenes else "tau"
    authors, depth, taus = [], [], []
    if has_authors_groups(base, groups):
        authors = [make("authors_groups", "groups as the authors released", group_source="authors")]
    if isinstance(model.depth, str):  # before the first block is no question about the last ones
        depth = [make("shallow", "prompts before the first block only", depth="shallow")]
    if not scenes:
        taus = [
            make("tau_2_3", "tau 2 for CO, 3 for DC", tau=[2.0, 3.0]),
            make("tau_3_2", "tau 3 for CO, 2 for DC", tau=[3.0, 2.0]),
        ]
    twice, all_experts = 2 * experts, groups * experts
    return (
        Variant(BASE, {}, "the base", paper=True),
        make("co_only", "without the DC view", True, views=("co",)),
        make("dc_only", "without the CO view", True, views=("dc",)),
        make("co_only_x2", "CO alone, as many prompts", views=("co",), experts_per_group=twice),
        make("dc_only_x2", "DC alone, as many prompts", views=("dc",), experts_per_group=twice),
        make("random_groups", "groups by chance", group_source="random"),
        make(
            "one_group",
            "no groups, as many prompts",
            group_source="single",
            experts_per_group=all_experts,
        ),
        make("kmeans_groups", "k-means on rows of P(j | i)", group_source="kmeans"),
        *authors,
        make("gate_mean", "without mixture: mean over experts", True, gate="mean"),
        _loss(
            "no_gate_loss", "gates trained by the class loss alone", True, co_gate=0.0, dc_gate=0.0
        ),
        make("gate_top1", "only the best expert per class", gate="top1"),
        *(make(f"groups_{n}", "groups per view", True, n_groups=n) for n in (2, 3, 5)),
        *(
            make(f"experts_{n}", "experts per group", True, experts_per_group=n)
            for n in more_experts
        ),
        *depth,
        make("joint_prompts", "prompts attend to each other", isolate_prompts=False),
        _loss("fused_loss", "the mean logit is trained too", fused=1.0),
        _loss("bce", "binary cross-entropy", kind="bce"),
        _loss("focal", "focal loss, gamma 2 on both sides", kind="focal"),
        make("before_norm", "tokens before the final norm", norm_output=False),
        make(f"{tau}_1", "tau 1: affinities as counted", tau=1.0),
        make(f"{tau}_3", "tau 3", tau=3.0),
        *taus,
        make("bottleneck_1", "narrower experts", bottleneck=1),
        make("bottleneck_20", "wider experts", bottleneck=20),
    )


def strength_variants(base: TrainConfig) -> tuple[Variant, ...]:
    """Methods and variants of ML-VPT that the study of the planted co-occurrence compares.

    One view, with half the prompts and with all of them, and one group with all of them: what is
    the grouping's and what is the number of prompts'.
    """
    methods = ("linear_probe", "vpt_deep", BASE)
    parts = ("co_only", "dc_only", "co_only_x2", "dc_only_x2", "one_group")
    return (
        *(variant for variant in METHODS if variant.name in methods),
        *(variant for variant in ablation_variants(base) if variant.name in parts),
    )


def has_authors_groups(base: TrainConfig, n_groups: int) -> bool:
    """Whether the authors' groups of this data set, so many of them, ship with the package."""
    return base.data.name in AUTHORS and n_groups in GROUPS
