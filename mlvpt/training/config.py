"""What a run is: frozen dataclasses, each default with its source.

"paper" is Ma et al., CVPR 2025; "release" is what the authors' released code does. A run is a
function of this configuration, the data and the seed. It is stored as config.json in the run
folder; the recipes are YAML files with the same keys.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from mlvpt.training.ranges import LARGEST_SIDE, POSITIVE_OR_PAIR, check_values, require

DATASETS = Literal[
    "scenes",
    "voc2007",
    "voc2012",
    "coco2014",
    "coco2017",
    "nuswide",
    "vg256",
    "visual_genome",
    "manifest",
    "coco_json",
    "huggingface",
]


@dataclass(frozen=True)
class DataConfig:
    """Which images and labels, how they are split and how they are augmented.

    Attributes:
        name: the data set; "manifest" is your own CSV, "coco_json" your own file in COCO's
            format, "huggingface" a Hugging Face dataset.
        root: its folder, or the file of a manifest or COCO JSON; scenes needs none.
        image_root: folder that such a file's image paths start from; default: the file's own.
        val_fraction: share of the training images held out to select the best epoch on.
        difficult: what VOC's 'difficult' objects count as.
        transform: augmentation of the training images.
        mean_std: normalisation, the backbone's own or ImageNet's.
        cache_gb: memory for decoded images, in GB; 0 decodes every epoch anew.
        token_cache: folder for the tokens before the first prompted block, which are the same in
            every run (see training/tokens.py); None makes them anew in every step. For images that
            are not augmented.
        test: evaluate the test images at the end. False leaves them alone, while settings are
            chosen.
        hold_out: keep the validation images out of training. False trains on them too, once
            everything is chosen: no epoch is selected then, and the last weights are kept.
        skip_corrupt: skip and count unreadable images instead of stopping.
        n_images: number of training images of scenes (None: all that the package makes).
        strength: strength of the planted co-occurrence of scenes, in [0, 1].
    """

    name: DATASETS = "scenes"  # ours: needs no download
    root: str | None = None
    image_root: str | None = None
    val_fraction: float = 0.1  # ours: the release selects on the test set, we never do
    difficult: Literal["ignore", "negative"] = "ignore"  # VOC protocol; release: "negative"
    transform: Literal["none", "official", "ours"] = "none"  # ours: digits have one orientation
    mean_std: Literal["backbone", "imagenet"] = "backbone"  # ours; release: ImageNet's for all
    cache_gb: float = 0.0  # ours: off unless asked for
    token_cache: str | None = None
    test: bool = True
    hold_out: bool = True
    skip_corrupt: bool = False  # ours: a damaged data set should be noticed
    n_images: int | None = None
    strength: float = 1.0  # design of DigitScenes

    def __post_init__(self) -> None:
        check_values("data", self)
        require(
            self.token_cache is None or (self.transform == "none" and not self.skip_corrupt),
            "data.token_cache",
            self.token_cache,
            "used with data.transform none and without data.skip_corrupt",
        )


@dataclass(frozen=True)
class ModelConfig:
    """Which method on which backbone.

    Attributes:
        method: "mlvpt", or a baseline by name.
        backbone: name of a timm VisionTransformer, or "scenes" (tiny, inside the package).
        pretrained: load the backbone's published weights; False gives random ones.
        backbone_checkpoint: file with other backbone weights, such as MoCo v3's.
        image_size: side in pixels, or [height, width]; None: the backbone's own.
        n_groups: groups per view, G.
        experts_per_group: prompt tokens per group, E.
        bottleneck: hidden width of an expert.
        tau: of the grouping: the affinity is the tau-th root of the conditional probabilities; or
            a pair, the tau of the CO view and the tau of the DC view.
        group_source: where groups come from: spectral clustering of the labels, the authors' file
            (VOC2007 and COCO2014), chance, one single group, or k-means of the label statistics.
        views: the label views in use.
        gate: how a class mixes the experts of its group.
        depth: prompts in every block, before the first only, or in the last n blocks; where a
            method trains the backbone's own weights, all blocks or the last n.
        isolate_prompts: prompts do not attend to other prompts.
        norm_output: prompt tokens after the final norm; None: as the release does per family.
        n_prompts: prompt tokens of the baselines that have no groups.
        pool: what the baselines with one linear head read, the class token or the mean of the
            patches; None: the class token where the backbone has one.
        start_from: folder of save_pretrained that a baseline's trained part begins as, such as a
            pruned E2VPT; None: at random.
    """

    method: str = "mlvpt"
    backbone: str = "scenes"  # ours: runs in a minute on a laptop
    pretrained: bool = True
    backbone_checkpoint: str | None = None
    image_size: int | list[int] | None = None
    n_groups: int = 5  # paper, section 4.1
    experts_per_group: int = 3  # paper, section 4.1
    bottleneck: int = 5  # release
    tau: float | list[float] = 2.0  # gives the released groups of VOC2007, and of COCO2014 (CO)
    group_source: Literal["labels", "authors", "random", "single", "kmeans"] = (
        "labels"  # paper, section 3.2
    )
    views: tuple[str, ...] = ("co", "dc")  # paper, section 3.2
    gate: Literal["dense", "mean", "top1"] = "dense"  # release: softmax over all experts
    depth: Literal["deep", "shallow"] | int = "deep"  # paper, section 3.1
    isolate_prompts: bool = True  # release
    norm_output: bool | None = None
    n_prompts: int = 30  # as many as ML-VPT's 2 * 5 * 3
    pool: Literal["class", "patches"] | None = None  # VPT reads the class token
    start_from: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.views, list):  # as JSON and YAML have it
            object.__setattr__(self, "views", tuple(self.views))
        check_values("model", self)
        pair = list(self.tau) if isinstance(self.tau, (list, tuple)) else [self.tau] * 2
        positive = len(pair) == 2 and all(tau > 0 for tau in pair)
        require(positive, "model.tau", self.tau, POSITIVE_OR_PAIR)
        sides = self.image_size if isinstance(self.image_size, list) else [self.image_size]
        require(
            self.image_size is None
            or (len(sides) in (1, 2) and all(side <= LARGEST_SIDE for side in sides)),
            "model.image_size",
            self.image_size,
            f"one side or [height, width], of at most {LARGEST_SIDE} pixels",
        )
        require(
            self.views in (("co", "dc"), ("co",), ("dc",)),
            "model.views",
            list(self.views),
            "[co, dc], [co] or [dc]",
        )


@dataclass(frozen=True)
class LossConfig:
    """The loss on each of the logits, and the weight of each logit.

    Attributes:
        kind: asymmetric loss, binary cross-entropy or focal loss.
        gamma_neg: focusing exponent of negatives.
        gamma_pos: focusing exponent of positives.
        clip: margin by which the probability of negatives is lowered.
        eps: probabilities of "asl" are clamped to this or more before their logarithm; the release
            clamps at 1e-5, which takes the gradient from entries that are wrong by a logit beyond
            11.51.
        co: weight of the CO logit.
        dc: weight of the DC logit.
        co_gate: weight of the CO gate logit.
        dc_gate: weight of the DC gate logit.
        fused: weight of the mean logit, the one that predicts.
    """

    kind: Literal["asl", "bce", "focal"] = "asl"  # paper, section 3.4
    gamma_neg: float = 2.0  # release
    gamma_pos: float = 0.0  # release
    clip: float = 0.0  # release
    eps: float = 0.0  # the formula; release: 1e-5
    co: float = 1.0  # release
    dc: float = 1.0  # release
    co_gate: float = 1.0  # release
    dc_gate: float = 1.0  # release
    fused: float = 0.0  # release: the fused logit is not trained

    def __post_init__(self) -> None:
        check_values("loss", self)


@dataclass(frozen=True)
class OptimConfig:
    """How the trained parameters are optimised, and how the run is executed.

    Attributes:
        lr: peak learning rate.
        weight_decay: of weights; biases, norms and one-dimensional parameters have none.
        epochs: passes over the training split.
        batch_size: images per step over all devices together and before accumulation.
        warmup_fraction: share of the steps in which the learning rate rises.
        clip_grad: largest gradient norm; 0 does not clip.
        accumulate: batches per optimiser step.
        ema: keep, select and save a moving average of the trained parameters.
        ema_left: share of the initial weights left in the average at the end of the run; the
            decay per step follows from the number of steps.
        precision: "no" is float32; "bf16" and "fp16" are autocast.
        compile: torch.compile the model.
        seed: of everything random.
        deterministic: only deterministic kernels; slower, and the same on every run.
        workers: processes that load images; 0 loads in the training process.
        patience: stop after this many epochs without a better val mAP; 0 never stops early.
        device: "auto" is the accelerator where there is one.
        checkpoint_minutes: longest time between two checkpoints; there is one every epoch.
        checkpoint_steps: also after every so many steps; 0: by time alone.
        track: log every epoch to this tracker, too; it must be installed.
    """

    lr: float = 5e-4  # release: 5e-4; 1e-4 for VG256, VOC at 448 px, COCO with DINOv2-B
    weight_decay: float = 1e-2  # release
    epochs: int = 40  # release
    batch_size: int = 64  # release
    warmup_fraction: float = 0.2  # release
    clip_grad: float = 0.0  # release: none
    accumulate: int = 1  # release
    ema: bool = True  # release
    ema_left: float = 0.82**40  # release: 0.82 per epoch, 40 epochs; ours: for runs of any length
    precision: Literal["no", "bf16", "fp16"] = "no"  # release: bf16; ours: safe on every CPU
    compile: bool = False  # ours: a minute of compilation pays only in long runs
    seed: int = 0
    deterministic: bool = False
    workers: int = 0  # ours: scenes are in memory; recipes with image files use more
    patience: int = 0  # ours: one-cycle needs its last epochs
    device: Literal["auto", "cpu"] = "auto"
    checkpoint_minutes: float = 10.0  # ours: what a kill may cost
    checkpoint_steps: int = 0
    track: Literal["tensorboard", "wandb", "trackio"] | None = (
        None  # ours: metrics.jsonl has it all
    )

    def __post_init__(self) -> None:
        check_values("optim", self)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Example:
        >>> TrainConfig(optim=OptimConfig(epochs=2)).optim.epochs
        2
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)


SECTIONS = {"data": DataConfig, "model": ModelConfig, "loss": LossConfig, "optim": OptimConfig}

RENAMED = {"model.root": "model.tau"}  # settings of version 0.1 by the name they have now

# How the work is executed, not what it computes.
EXECUTION = frozenset(
    {
        "data.test",
        "data.token_cache",
        "optim.workers",
        "optim.device",
        "optim.compile",
        "optim.checkpoint_minutes",
        "optim.checkpoint_steps",
        "optim.track",
    }
)
# May differ when a run is resumed: also where files lie, whose content is compared.
FREE_ON_RESUME = EXECUTION | {"data.root", "data.image_root", "model.backbone_checkpoint"}


def flatten(config: TrainConfig | dict) -> dict[str, Any]:
    """{"optim.lr": 0.0005, ...} of a configuration, or of a nested dict with its layout."""
    nested = to_dict(config) if isinstance(config, TrainConfig) else config
    flat = {}
    for section, values in nested.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            flat[section] = values
    return flat


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Nested dict of plain values that JSON and YAML can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
