"""A trained model as a file that needs neither this package nor Python: ONNX, torch.export, web."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlvpt.errors import InputError
from mlvpt.files import atomic_path, write_json
from mlvpt.inference.web import export_web

FORMATS = {"onnx": ".onnx", "torch": ".pt2", "web": ".bin"}
TOLERANCE = 1e-4  # largest difference of probabilities between the file and the eager model


class Probabilities(nn.Module):
    """Pixels in, probabilities out: normalisation, model and sigmoid as one module.

    Shape:
        images (B, 3, H, W) float32 in [0, 1] -> probabilities (B, K).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(model.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(model.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std).logits.sigmoid()


def export_model(model: Any, path: str | Path, format: str = "onnx") -> float:
    """Write a model as one file with a dynamic batch size, and check the file.

    Beside it, a JSON file of the same name holds the class names and the image size.

    Args:
        model: as `load_model` gives it.
        path: the file to write.
        format: "onnx" (read back with onnxruntime), "torch" (torch.export), or "web" (half
            precision and a manifest for plain JavaScript, see `mlvpt.inference.web`).

    Returns:
        The largest difference of probabilities from the eager model, over batches of 1, 2 and 5.

    Raises:
        InputError: unknown format, a missing library, or a file that differs by more than 1e-4
            (web: 1e-2, half precision).
    """
    if format not in FORMATS:
        raise InputError(f"there is no export format {format!r}: use {' or '.join(FORMATS)}.")
    if format == "web":
        return export_web([model], path)
    path = Path(path)
    module = Probabilities(model).cpu().eval()
    height, width = model.image_size
    example = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with atomic_path(path) as temporary, torch.no_grad():
        # exporters and runtimes judge a file by its suffix
        draft = temporary.with_name(temporary.name + FORMATS[format])
        try:
            run = (_to_onnx if format == "onnx" else _to_torch)(module, example, draft)
            difference = max(_difference(module, run, n, (height, width)) for n in (1, 2, 5))
            if not difference <= TOLERANCE:
                raise InputError(
                    f"the {format} file differs from the model by {difference:.1e} in "
                    f"probability, more than {TOLERANCE:g}: it was not written."
                )
            draft.replace(temporary)
        finally:
            draft.unlink(missing_ok=True)
    about = {
        "class_names": list(model.class_names),
        "image_size": [height, width],
        "input": "images: float32 (batch, 3, height, width), RGB in [0, 1], resized, not cropped",
        "output": "probabilities: float32 (batch, classes)",
    }
    write_json(path.with_suffix(".json"), about)
    return difference


def _difference(module: nn.Module, run: Any, n_images: int, size: tuple[int, int]) -> float:
    generator = torch.Generator().manual_seed(n_images)
    images = torch.rand(n_images, 3, *size, generator=generator)
    return float((module(images) - run(images)).abs().max())


def _to_onnx(module: nn.Module, example: Tensor, path: Path) -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise InputError(f"ONNX export needs {error.name}: pip install 'mlvpt[export]'.") from None
    program = torch.onnx.export(
        _exported(module, example),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities"],
        verbose=False,
    )
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _to_torch(module: nn.Module, example: Tensor, path: Path) -> Any:
    program = _exported(module, example)
    torch.export.save(program, str(path))
    return torch.export.load(str(path)).module()


def _exported(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The graph with a dynamic batch size; strict, because len(tensor) is a number otherwise."""
    shapes = {"images": {0: torch.export.Dim("batch", min=1, max=4096)}}
    return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
