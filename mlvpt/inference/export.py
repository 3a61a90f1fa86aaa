"""A trained model as a file that needs neither this package nor Python: ONNX, torch.export, web."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlvpt.errors import InputError
from mlvpt.files import Outputs, read_json, stream_of, write_bytes, write_json
from mlvpt.inference.web import WEB_FORMAT, export_web

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
        InputError: unknown format, a missing library, a file that differs by more than 1e-4 (web:
            1e-2, half precision), or another file where the description goes.
    """
    check_format(format)
    path = Path(path)
    outputs = Outputs()
    outputs.add(path, "the file")
    outputs.add(about_path(path), "its description", own=is_about)
    if format == "web":
        return export_web([model], path)
    module = Probabilities(model).cpu().eval()
    height, width = model.image_size
    example = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        content, run = (_to_onnx if format == "onnx" else _to_torch)(module, example)
        difference = max(_difference(module, run, n, (height, width)) for n in (1, 2, 5))
    if not difference <= TOLERANCE:
        raise InputError(
            f"the {format} file differs from the model by {difference:.1e} in "
            f"probability, more than {TOLERANCE:g}: it was not written."
        )
    about = {
        "class_names": list(model.class_names),
        "image_size": [height, width],
        "input": "images: float32 (batch, 3, height, width), RGB in [0, 1], resized, not cropped",
        "output": "probabilities: float32 (batch, classes)",
    }
    write_bytes(path, content)
    if (beside := about_path(path)) is not None:
        write_json(beside, about)
    return difference


def check_format(format: str) -> None:
    """Refuse a format that `export_model` does not know."""
    if format not in FORMATS:
        raise InputError(f"there is no export format {format!r}: use {' or '.join(FORMATS)}.")


def about_path(path: str | Path) -> Path | None:
    """The JSON file beside an exported one; None beside a pipe or a device."""
    path = Path(path)
    regular = stream_of(path) is None and (path.is_file() or not path.exists())
    return path.with_suffix(".json") if regular else None


def is_about(path: str | Path) -> bool:
    """Whether a file is the description of an exported model, and may be replaced by another."""
    schema = {"class_names": [str], "image_size": [int], "input": str, "output": str}
    what = "the description of an exported model"
    try:
        content = read_json(path, what)
        if not isinstance(content, dict) or content.get("format") != WEB_FORMAT:
            read_json(path, what, schema)
    except InputError:
        return False
    return True


def _difference(module: nn.Module, run: Any, n_images: int, size: tuple[int, int]) -> float:
    generator = torch.Generator().manual_seed(n_images)
    images = torch.rand(n_images, 3, *size, generator=generator)
    return float((module(images) - run(images)).abs().max())


def _to_onnx(module: nn.Module, example: Tensor) -> tuple[bytes, Any]:
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
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda images: torch.from_numpy(
        session.run(None, {"images": images.numpy()})[0]
    )


def _to_torch(module: nn.Module, example: Tensor) -> tuple[bytes, Any]:
    # in memory: torch's own writer ends the process when the disk is full
    content = io.BytesIO()
    torch.export.save(_exported(module, example), content)
    run = torch.export.load(io.BytesIO(content.getvalue())).module()
    return content.getvalue(), run


def _exported(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The graph with a dynamic batch size; strict, because len(tensor) is a number otherwise."""
    shapes = {"images": {0: torch.export.Dim("batch", min=1, max=4096)}}
    return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
