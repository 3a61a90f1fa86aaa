"""The common class of all methods and its output: trained part, predicting, saving, loading."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from PIL import Image
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.backbones import Origin, backbone_hash
from mlvpt.errors import InputError
from mlvpt.files.saved_model import CONFIG, FORMAT, WEIGHTS, read_model, write_card, write_model
from mlvpt.images import ImageError, eval_transform, normalize, read_picture
from mlvpt.labels import LabelGroups, check_class_names
from mlvpt.prompts import PromptedViT

BATCH = 32  # pictures that are computed together
DIVERGED = (
    "the model gives NaN: its weights have diverged or are damaged; train it again with a lower "
    "learning rate, or load other weights."
)


@dataclass
class Output:
    """Logits of one forward pass. Fields that a method or a switched-off view lacks are None.

    Attributes:
        logits: (B, K) the prediction; of ML-VPT, the mean of the views' logits.
        co_logits, dc_logits: (B, K) logits of the CO and the DC branch of ML-VPT.
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


class MultiLabelClassifier(nn.Module, ModelHubMixin):
    """A (mostly) frozen Vision Transformer with a trained part that scores K classes.

    A method is a subclass, and known here as soon as it is defined: by its class name, which a
    saved model records, and by the names that settings call it, given where it is defined as
    `class VPT(..., methods=("vpt_shallow", "vpt_deep"))`. Its constructor calls
    `mlvpt.backbones.build_backbone` and hands the result to this one. It sets `vit` (the timm
    VisionTransformer inside) and `options` (its own keyword arguments, as JSON can hold them),
    and returns an `Output` from `forward`.

    Args:
        vit: the built backbone, of which only the normalisation of images is read here.
        origin: where its weights come from.
        class_names: K names, in the order of the logits.
        groups: the label groups, for classifiers that use them.

    Raises:
        InputError: names that are no K different strings.

    Attributes:
        kinds: every subclass by its class name.
        methods: every method by its name in the settings.
        settings: of a class, those keyword arguments of its constructor that the settings of a
            model (`mlvpt.training.config.ModelConfig`) have under the same names.
        mean, std: per channel, for images in [0, 1]: what the backbone was trained with. Set
            them to others before training, and they are saved and loaded with the model.
    """

    kinds: ClassVar[dict[str, type["MultiLabelClassifier"]]] = {}
    methods: ClassVar[dict[str, type["MultiLabelClassifier"]]] = {}
    settings: ClassVar[tuple[str, ...]] = ()

    vit: VisionTransformer
    options: dict[str, Any]

    def __init_subclass__(cls, *, methods: Sequence[str] = (), **card: Any) -> None:
        super().__init_subclass__(**card)
        MultiLabelClassifier.kinds[cls.__name__] = cls
        MultiLabelClassifier.methods.update(dict.fromkeys(methods, cls))

    def __init__(
        self,
        vit: VisionTransformer,
        origin: Origin,
        class_names: Sequence[str],
        *,
        groups: LabelGroups | None = None,
    ) -> None:
        super().__init__()
        self.class_names = check_class_names(class_names, len(class_names))
        self.groups = groups
        if not self.class_names:
            raise InputError("A classifier needs at least one class name.")
        self.backbone_name, self.backbone_source = origin
        data = resolve_model_data_config(vit)
        self.mean, self.std = tuple(data["mean"]), tuple(data["std"])

    @classmethod
    def options_of(cls, config: Any) -> dict[str, Any]:
        """The constructor's own keyword arguments, from a `mlvpt.training.config.ModelConfig`."""
        return {name: getattr(config, name) for name in cls.settings}

    @classmethod
    def from_config(
        cls, config: Any, class_names: Sequence[str], groups: LabelGroups | None = None
    ) -> "MultiLabelClassifier":
        """A new model of this class, not yet trained, with the settings that concern it.

        Args:
            config: a `mlvpt.training.config.ModelConfig`: its backbone, pretrained, image_size,
                backbone_checkpoint, and what `options_of` reads.
            class_names: K names.
            groups: the label groups, for classifiers that use them.

        Raises:
            InputError: the backbone is unknown, or an option does not fit.
        """
        return cls._make(
            config.backbone,
            class_names,
            groups,
            **cls.options_of(config),
            pretrained=config.pretrained,
            image_size=config.image_size,
            backbone_checkpoint=config.backbone_checkpoint,
        )

    @property
    def prompted_vit(self) -> PromptedViT | None:
        """The frozen backbone with its prompts; None where the backbone itself is trained."""
        return None

    @property
    def n_frozen_blocks(self) -> int:
        """Blocks, from the first on, whose output depends on nothing that is trained."""
        return 0 if self.prompted_vit is None else self.prompted_vit.first

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the model reads, in pixels."""
        return tuple(self.vit.patch_embed.img_size)

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and value of every parameter that training changes."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)

    @property
    def n_trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for _, parameter in self.trainable_parameters())

    @torch.inference_mode()
    def probabilities(self, images: Any) -> Tensor:
        """Probability of every class in every picture: (N, K) in [0, 1], on the CPU.

        Args:
            images: pictures as `predict` takes them.

        Raises:
            InputError: something that is no picture, an image that cannot be read (with its
                position), or a model that gives NaN.
        """
        images = _pictures(images)
        transform = eval_transform(self.image_size)
        first = next(self.parameters())
        was_training = self.training
        self.eval()
        chunks = []
        try:
            for start in range(0, len(images), BATCH):
                chunk = images[start : start + BATCH]
                pixels = [transform(_read(chunk, i, start)) for i in range(len(chunk))]
                batch = torch.stack(pixels).to(first.device)
                logits = self(normalize(batch, self.mean, self.std, first.dtype)).logits
                chunks.append(logits.float().sigmoid().cpu())
                if chunks[-1].isnan().any():
                    raise InputError(DIVERGED)
        finally:
            self.train(was_training)
        return torch.cat(chunks) if chunks else torch.empty(0, len(self.class_names))

    def predict(self, images: Any, threshold: float = 0.5) -> list[dict[str, float]]:
        """Classes found in each picture, most probable first.

        Args:
            images: pictures of any size, or one picture, each as `mlvpt.images.read_picture`
                takes it: a PIL image, a path, a uint8 array (H, W, 3), or a uint8 tensor
                (3, H, W). Not normalised: that is done here.
            threshold: smallest probability that is reported, in [0, 1]; 0 reports every class.

        Returns:
            One {class name: probability} per picture.

        Raises:
            InputError: a threshold outside [0, 1], or as `probabilities`.
        """
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold!r}: a probability lies in [0, 1].")
        found = []
        for row in self.probabilities(images).tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            found.append({name: value for name, value in ranked if value >= threshold})
        return found

    def trained_state(self) -> dict[str, Tensor]:
        """Trained parameters and buffers by name, without frozen parameters, on the CPU."""
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        state = self.state_dict()
        return {n: t.detach().cpu().contiguous() for n, t in state.items() if n not in frozen}

    def load_trained_state(self, state: dict[str, Tensor], *, whole: bool = False) -> None:
        """Load a state that `trained_state` gave; `whole`: with the frozen parameters.

        Raises:
            InputError: names or shapes differ from this model's.
        """
        wanted = self.state_dict() if whole else self.trained_state()
        wrong = sorted(wanted.keys() ^ state.keys())
        wrong += [n for n in wanted.keys() & state.keys() if wanted[n].shape != state[n].shape]
        if wrong:
            raise InputError(
                f"The weights are of another model: {', '.join(wrong[:5])}"
                f"{' and more' if len(wrong) > 5 else ''} missing, unknown or of another shape."
            )
        self.load_state_dict(state, strict=False)

    @property
    def saved_config(self) -> dict[str, Any]:
        """Settings that build the model again, without its weights, as JSON can hold them.

        An attribute of the name `config` would be taken for one of transformers' by its Trainer.
        """
        return {
            "format": FORMAT,
            "method": type(self).__name__,
            "backbone": self.backbone_name,
            "backbone_source": self.backbone_source,
            "image_size": list(self.image_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "class_names": list(self.class_names),
            "groups": None if self.groups is None else self.groups.to_dict(),
            "options": self.options,
        }

    def save_pretrained(self, folder: str | Path, **to_hub: Any) -> None:
        """Write the trained part to `folder`: model.safetensors and config.json, a few MB.

        The frozen backbone is not written: its name and a hash of its weights are, so that
        `from_pretrained` can refuse another. Only a random backbone is written in full, because
        nothing else could bring it back. (Further keywords come from `push_to_hub`, and with them
        a model card, README.md, is written, too.)
        """
        state = self.state_dict() if self.backbone_source == "random" else self.trained_state()
        config = {**self.saved_config, "backbone_sha256": backbone_hash(self.vit)}
        write_model(Path(folder), state, config)
        if to_hub:
            write_card(Path(folder), config, type(self).__module__)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        backbone: VisionTransformer | None = None,
        backbone_checkpoint: str | Path | None = None,
        other_backbone: bool = False,
        **download: Any,
    ) -> "MultiLabelClassifier":
        """Build a saved model again, in eval mode.

        Args:
            folder: a folder that `save_pretrained` wrote, or a Hugging Face repository id.
            backbone: the built backbone, for models that were made from one.
            backbone_checkpoint: the backbone's weight file, for models that were made from one.
            other_backbone: load on a backbone of other weights, too, instead of refusing it.
            download: `revision`, `token`, `cache_dir`, ... for huggingface_hub.

        Raises:
            InputError: a file is missing, altered or of another model, or the backbone's weights
                are not those that the model was trained on.
        """
        folder, config = read_model(folder, **download)
        name = config["method"]
        if name not in cls.kinds:
            raise InputError(
                f"{folder} holds a model of the class {name}, which is not defined yet: import "
                "the module that defines it (mlvpt.model for MLVPT, mlvpt.baselines for the others "
                "of this package)."
            )
        kind = cls.kinds[name]
        if not issubclass(kind, cls):
            raise InputError(f"{folder} holds a {kind.__name__}, not a {cls.__name__}.")
        source = config["backbone_source"]
        if backbone is None and source == "module":
            raise InputError(
                f"{folder} was trained on a built backbone: give it as backbone=MODULE."
            )
        if backbone is None and source == "file" and backbone_checkpoint is None:
            raise InputError(
                f"{folder} was trained on a weight file: give it as backbone_checkpoint=FILE."
            )
        size, groups = tuple(config["image_size"]), config["groups"]
        try:
            model = kind._make(
                config["backbone"] if backbone is None else backbone,
                config["class_names"],
                None if groups is None else LabelGroups.from_dict(groups),
                **config["options"],
                pretrained=source == "pretrained",
                image_size=size if backbone is None else None,
                backbone_checkpoint=backbone_checkpoint,
            )
        except (TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f"{folder / CONFIG} holds options that {name} does not take ({error}): restore it."
            ) from error
        if model.image_size != size:
            raise InputError(
                f"{folder} was trained on images of {size[0]} x {size[1]} pixels, and the backbone "
                f"reads {model.image_size[0]} x {model.image_size[1]}: build it with that size."
            )
        model.backbone_name, model.backbone_source = config["backbone"], source
        model.mean, model.std = tuple(config["mean"]), tuple(config["std"])
        any_backbone = other_backbone or source == "random"
        if not any_backbone and backbone_hash(model.vit) != config["backbone_sha256"]:
            raise InputError(
                f"The backbone's weights are not those that {folder} was trained on (their SHA-256 "
                "differs). Give the same: backbone_checkpoint=FILE for a weight file, "
                "backbone=MODULE for a built module."
            )
        model.load_trained_state(load_file(folder / WEIGHTS), whole=source == "random")
        return model.eval()

    @classmethod
    def _make(
        cls,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        groups: LabelGroups | None,
        **keywords: Any,
    ) -> "MultiLabelClassifier":
        """Call the constructor, of a classifier without groups unless a subclass says otherwise."""
        return cls(backbone, class_names, **keywords)


class PromptedClassifier(MultiLabelClassifier):
    """A classifier whose backbone is frozen, in eval mode, inside a PromptedViT."""

    @property
    def prompted_vit(self) -> PromptedViT:
        """The frozen backbone with its prompts."""
        return next(part for part in self.children() if isinstance(part, PromptedViT))

    @property
    def vit(self) -> VisionTransformer:
        """The frozen timm model inside."""
        return self.prompted_vit.backbone


def _pictures(images: Any) -> Sequence[Any]:
    """One picture or several as a sequence of pictures, none of them read yet."""
    is_array = isinstance(images, np.ndarray | Tensor)
    single = isinstance(images, str | os.PathLike | Image.Image)
    if single or (is_array and images.ndim in (0, 2, 3)):
        return [images]
    if is_array or isinstance(images, list | tuple):
        return images
    if isinstance(images, Iterable) and not isinstance(images, Mapping | bytes):
        return list(images)
    raise InputError(
        f"images must be pictures or a list of pictures, but are a {type(images).__name__}."
    )


def _read(chunk: Sequence[Any], index: int, start: int) -> Image.Image:
    """One picture of a chunk; an error names its position."""
    try:
        return read_picture(chunk[index])
    except ImageError as error:
        if isinstance(chunk[index], str | os.PathLike):
            raise  # it names the path
        raise ImageError(f"picture {start + index}: {error}", error.kind) from error
    except InputError as error:
        raise InputError(f"picture {start + index}: {error}") from error
