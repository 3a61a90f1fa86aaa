import errno
import json

import numpy as np
import pytest
import torch

from mlvpt.cli import main as cli
from mlvpt.datasets import load_scenes
from mlvpt.errors import InputError
from mlvpt.inference import export as exporting
from mlvpt.inference.export import Probabilities, export_model
from mlvpt.training.build import load_model


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


def test_onnx_file_answers_as_the_model_for_any_batch(model, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert export_model(model, tmp_path / "model.onnx", "onnx") <= 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.json"}
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    scenes = load_scenes("test", n_images=7)
    pictures = [scenes.load_image(i) for i in range(7)]
    pixels = np.stack([np.asarray(picture) for picture in pictures]) / 255
    images = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, model.probabilities(pictures), atol=1e-4)
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["class_names"] == list(model.class_names)


def test_torch_file_answers_as_the_model_for_any_batch(model, tmp_path):
    assert export_model(model, tmp_path / "model.pt2", "torch") <= 1e-4
    loaded = torch.export.load(str(tmp_path / "model.pt2")).module()
    images = torch.rand(3, 3, 48, 48)
    torch.testing.assert_close(loaded(images), Probabilities(model)(images), atol=1e-4, rtol=0)


def test_file_that_differs_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        exporting, "_to_torch", lambda *_: (b"", lambda images: torch.zeros(len(images), 10))
    )
    with pytest.raises(InputError, match="differs from the model by"):
        export_model(model, tmp_path / "model.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


def test_unknown_format_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="no export format 'tflite'"):
        export_model(model, tmp_path / "model.tflite", "tflite")


@pytest.mark.parametrize("name", ["model.pt2", "config.pt2"])
def test_a_description_never_replaces_a_file_of_the_users(model, tmp_path, name):
    (tmp_path / name).with_suffix(".json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match="was not written by this package"):
        export_model(model, tmp_path / name, "torch")
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_export_on_a_full_disk_is_a_sentence_and_leaves_nothing(
    tiny_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(exporting, "_to_torch", lambda module, _: (b"x" * 99, module))

    def full_disk(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    words = ["export", str(tiny_run), "--format", "torch", "--output", str(tmp_path / "m.pt2")]
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"mlvpt: {tmp_path / 'm.pt2'}: No space left on device.\n"
    assert list(tmp_path.iterdir()) == []
