"""What every classifier of this package can do: name its trained part, predict, save, load."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.backbones import backbone_hash, check_promptable, create_backbone
from mlvpt.errors import InputError
from mlvpt.files import atomic_path, read_json, sha256_of_file, write_json
from mlvpt.images import eval_transform, normalize, to_rgb
from mlvpt.labels import LabelGroups, check_class_names
from mlvpt.prompts import PromptedViT

WEIGHTS, CONFIG, FORMAT = "model.safetensors", "config.json", 1


class MultiLabelClassifier(nn.Module, ModelHubMixin):
    """A (mostly) frozen Vision Transformer with a trained part that scores K classes.

    Subclasses set `vit` (the timm VisionTransformer inside) and `options` (their own keyword
    arguments, as JSON can hold them), and return from `forward` an object with `.logits` (B, K).

    Args:
        backbone: a timm name (see `create_backbone`) or a built VisionTransformer.
        class_names: K names, in the order of the logits.
        groups: the label groups, for classifiers that use them.
        pretrained, image_size, backbone_checkpoint: passed to `create_backbone` with a name.

    Raises:
        InputError: the backbone is unknown or no VisionTransformer, or is built already and comes
            with an option of `create_backbone`; names that are no K different strings.

    Attributes:
        mean, std: per channel, for images in [0, 1]: what the backbone was trained with. Set
            them to others before training, and they are saved and loaded with the model.
    """

    vit: VisionTransformer
    options: dict[str, Any]

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        groups: LabelGroups | None = None,
        pretrained: bool = True,
        image_size: int | Sequence[int] | None = None,
        backbone_checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.class_names = check_class_names(class_names, len(class_names))
        self.groups = groups
        if not self.class_names:
            raise InputError("A classifier needs at least one class name.")
        self.backbone_name = backbone if isinstance(backbone, str) else None
        self.backbone_source = "module"  # where the frozen weights come from, and come from again
        if isinstance(backbone, str):
            by_name = "pretrained" if pretrained else "random"
            self.backbone_source = by_name if backbone_checkpoint is None else "file"
            backbone = create_backbone(
                backbone,
                pretrained=pretrained,
                image_size=image_size,
                checkpoint=backbone_checkpoint,
            )
        elif image_size is not None or backbone_checkpoint is not None:
            raise InputError(
                "image_size and backbone_checkpoint go with the name of a backbone; a built one "
                "has its size and its weights."
            )
        check_promptable(backbone)
        data = resolve_model_data_config(backbone)
        self.mean, self.std = tuple(data["mean"]), tuple(data["std"])
        self._built = [backbone]  # in a list, so that it is not registered twice as a submodule

    @property
    def prompted_vit(self) -> PromptedViT | None:
        """The frozen backbone with its prompts; None where the backbone itself is trained."""
        return None

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
    def probabilities(self, images: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Probability of every class in every picture: (N, K) in [0, 1], on the CPU."""
        transform = eval_transform(self.image_size)
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        chunks = []
        try:
            for start in range(0, len(images), batch_size):
                chunk = images[start : start + batch_size]
                batch = torch.stack([transform(to_rgb(image)) for image in chunk])
                logits = self(normalize(batch.to(device), self.mean, self.std)).logits
                chunks.append(logits.float().sigmoid().cpu())
        finally:
            self.train(was_training)
        return torch.cat(chunks) if chunks else torch.empty(0, len(self.class_names))

    def predict(
        self, images: Image.Image | Sequence[Image.Image], threshold: float = 0.5
    ) -> list[dict[str, float]]:
        """Classes found in each picture, most probable first.

        Args:
            images: PIL pictures of any size and mode, or one picture.
            threshold: smallest probability that is reported, in [0, 1]; 0 reports every class.

        Returns:
            One {class name: probability} per picture.
        """
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}: a probability lies in [0, 1].")
        images = [images] if isinstance(images, Image.Image) else list(images)
        found = []
        for row in self.probabilities(images).tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            found.append({name: value for name, value in ranked if value >= threshold})
        return found

    def trained_state(self) -> dict[str, Tensor]:
        """What training made: the state without frozen parameters, on the CPU."""
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        state = self.state_dict()
        return {n: t.detach().cpu().contiguous() for n, t in state.items() if n not in frozen}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `trained_state` gave.

        Raises:
            InputError: names or shapes differ from this model's.
        """
        wanted = self.trained_state()
        wrong = sorted(wanted.keys() ^ state.keys())
        wrong += [n for n in wanted.keys() & state.keys() if wanted[n].shape != state[n].shape]
        if wrong:
            raise InputError(
                f"The weights are of another model: {', '.join(wrong[:5])}"
                f"{' and more' if len(wrong) > 5 else ''} missing, unknown or of another shape."
            )
        self.load_state_dict(state, strict=False)

    @property
    def config(self) -> dict[str, Any]:
        """Everything but weights that is needed to build the model again, as JSON can hold it."""
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

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write the trained part to `folder`: model.safetensors and config.json, a few MB.

        The frozen backbone is not written: its name and a hash of its weights are, so that
        `from_pretrained` can refuse another. Only a random backbone is written in full, because
        nothing else could bring it back. (Further keywords come from `push_to_hub`.)
        """
        folder = Path(folder)
        state = self.state_dict() if self.backbone_source == "random" else self.trained_state()
        state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(state, temporary)
        hashes = {
            "weights_sha256": sha256_of_file(folder / WEIGHTS),
            "backbone_sha256": backbone_hash(self.vit),
        }
        write_json(folder / CONFIG, {**self.config, **hashes})

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        backbone: VisionTransformer | None = None,
        backbone_checkpoint: str | Path | None = None,
        **download: Any,
    ) -> "MultiLabelClassifier":
        """Build a saved model again, in eval mode.

        Args:
            folder: a folder that `save_pretrained` wrote, or a Hugging Face repository id.
            backbone: the built backbone, for models that were made from one.
            backbone_checkpoint: the backbone's weight file, for models that were made from one.
            download: `revision`, `token`, `cache_dir`, ... for huggingface_hub.

        Raises:
            InputError: a file is missing, altered or of another model, or the backbone's weights
                are not those that the model was trained on.
        """
        folder = Path(folder)
        if not folder.is_dir():
            folder = _download(folder.as_posix(), **download)
        config = read_json(folder / CONFIG, "the model's configuration")
        weights = folder / WEIGHTS
        if config.get("format") != FORMAT or config.get("method") not in _methods():
            raise InputError(
                f"{folder / CONFIG} is not the configuration of a model of this package."
            )
        if not weights.is_file():
            raise InputError(f"{weights} is missing: save the model again, or restore the file.")
        if sha256_of_file(weights) != config["weights_sha256"]:
            raise InputError(
                f"{weights} was altered after it was saved (its SHA-256 differs): restore it."
            )
        kind = _methods()[config["method"]]
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
        size = tuple(config["image_size"])
        model = kind._rebuild(
            config["backbone"] if backbone is None else backbone,
            config,
            pretrained=source == "pretrained",
            image_size=size if backbone is None else None,
            backbone_checkpoint=backbone_checkpoint,
        )
        if model.image_size != size:
            raise InputError(
                f"{folder} was trained on images of {size[0]} x {size[1]} pixels, and the backbone "
                f"reads {model.image_size[0]} x {model.image_size[1]}: build it with that size."
            )
        model.backbone_name, model.backbone_source = config["backbone"], source
        state = load_file(weights)
        model.mean, model.std = tuple(config["mean"]), tuple(config["std"])
        if source == "random":
            model.load_state_dict(state)
            return model.eval()
        if backbone_hash(model.vit) != config["backbone_sha256"]:
            raise InputError(
                f"The backbone's weights are not those that {folder} was trained on (their SHA-256 "
                "differs). Give the same: backbone_checkpoint=FILE for a weight file, "
                "backbone=MODULE for a built module."
            )
        model.load_trained_state(state)
        return model.eval()

    @classmethod
    def _rebuild(cls, backbone, config: dict[str, Any], **keywords: Any) -> "MultiLabelClassifier":
        """Call the constructor with what `config` recorded. Classifiers without groups."""
        return cls(backbone, config["class_names"], **config["options"], **keywords)


def _methods() -> dict[str, type[MultiLabelClassifier]]:
    """Every classifier class by name: the subclasses, and theirs."""
    from mlvpt import baselines, model  # noqa: F401  defines the subclasses

    found, waiting = {}, [MultiLabelClassifier]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            found[kind.__name__] = kind
            waiting.append(kind)
    return found


def _download(repository: str, **keywords: Any) -> Path:
    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG], **keywords))
    except Exception as error:
        raise InputError(
            f"{repository} is neither a folder nor a repository that can be fetched "
            f"({(str(error) or type(error).__name__).splitlines()[0]})."
        ) from error
