"""The two files of a saved model: its weights, and the configuration that builds it again.

Each vouches for the other: config.json has the SHA-256 of model.safetensors, whose header has the
configuration's. Neither can run code.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlvpt.errors import InputError, first_line
from mlvpt.files.network import cache_alone_without_network
from mlvpt.files.outputs import Outputs
from mlvpt.files.reading import read_json, sha256_of_file, sha256_of_json
from mlvpt.files.writing import write_bytes, write_json, write_text

WEIGHTS, CONFIG, FORMAT = "model.safetensors", "config.json", 1
CHECKSUM = "config_sha256"  # in the header of the weights
SCHEMA = {
    "format": int,
    "method": str,
    "backbone": (str, None),  # None: a built module
    "backbone_source": str,
    "image_size": [int],
    "mean": [float],
    "std": [float],
    "class_names": [str],
    "groups": (None, {"n_groups": int, "co": [int], "dc": [int], "class_names?": (None, [str])}),
    "options": {str: object},
    "weights_sha256": str,
    "backbone_sha256": str,
}


def write_model(folder: Path, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and configuration; a config.json of something else is not replaced.

    Raises:
        InputError: `folder` holds a file of the user's of one of these names.
    """
    outputs = Outputs()
    outputs.add(folder / WEIGHTS, "the model")
    outputs.add(folder / CONFIG, "the model", own=_is_model_config)
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    header = {"format": "pt", CHECKSUM: sha256_of_json(config)}
    write_bytes(folder / WEIGHTS, save(state, metadata=header))
    weights_sha256 = sha256_of_file(folder / WEIGHTS)
    write_json(folder / CONFIG, {**config, "weights_sha256": weights_sha256})


def write_card(folder: Path, config: dict[str, Any], module: str) -> None:
    """Write the model's page on the Hub, README.md: the library's tag, how to load it, its classes.

    Args:
        folder: of the two files.
        config: what `write_model` was given.
        module: where the model's class is defined.
    """
    method, classes = config["method"], config["class_names"]
    text = f"""\
---
library_name: mlvpt
pipeline_tag: image-classification
tags:
- multi-label-classification
- visual-prompt-tuning
---

# {method} on {config["backbone"] or "a built backbone"}

The trained part of a multi-label classifier. Its backbone stayed as it was and is fetched by name.

```python
from {module} import {method}

model = {method}.from_pretrained("THIS/REPOSITORY")
model.predict("picture.jpg", threshold=0.5)
```

{len(classes)} classes: {", ".join(classes)}.
"""
    write_text(folder / "README.md", text)


def read_model(source: str | Path, **download: Any) -> tuple[Path, dict[str, Any]]:
    """The folder of a saved model and its configuration, after checking that its files agree.

    Args:
        source: a folder, or a Hugging Face repository id.
        download: `revision`, `token`, `cache_dir`, ... for huggingface_hub.

    Raises:
        InputError: a file is missing, damaged or altered, or there is no such model.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(folder.as_posix(), **download)
    config = _read_config(folder / CONFIG)
    _check_weights(folder / WEIGHTS, config)
    return folder, config


def _is_model_config(path: Path) -> bool:
    """Whether a config.json is of a model, and not of a run or of something else."""
    try:
        _read_config(path)
    except InputError:
        return False
    return True


def _read_config(path: Path) -> dict[str, Any]:
    """The content of a model's config.json, its checksum not yet compared."""
    content = read_json(path, "the model's configuration")
    if not isinstance(content, dict) or content.get("format") != FORMAT or "method" not in content:
        raise InputError(f"{path} is not the configuration of a model of this package.")
    return read_json(path, "the model's configuration", SCHEMA)


def _check_weights(path: Path, config: dict[str, Any]) -> None:
    """Refuse weights that are not those of the configuration, or the other way round."""
    if not path.is_file():
        raise InputError(f"{path} is missing: save the model again, or restore the file.")
    if sha256_of_file(path) != config["weights_sha256"]:
        raise InputError(
            f"{path} was altered after it was saved (its SHA-256 differs): restore it."
        )
    try:
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get(CHECKSUM)  # version 0.1 wrote none
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}): restore it.") from None
    covered = {key: value for key, value in config.items() if key != "weights_sha256"}
    if known not in (None, sha256_of_json(covered)):
        raise InputError(
            f"{path.with_name(CONFIG)} was altered after it was saved (its SHA-256 differs): "
            "restore it."
        )


def _download(repository: str, **keywords: Any) -> Path:
    try:
        with cache_alone_without_network():
            return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG], **keywords))
    except Exception as error:
        raise InputError(
            f"{repository} is neither a folder nor a repository that can be fetched "
            f"({first_line(error)})."
        ) from error
