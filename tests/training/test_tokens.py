"""Kept tokens: made once, the same training, and refused where they would be wrong."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_runs import tiny_config

from mlvpt.errors import InputError
from mlvpt.training import tokens
from mlvpt.training.build import build_groups, build_model
from mlvpt.training.data import AugmentedImages, as_is, load_data
from mlvpt.training.loop import train


def config(csv_path, **changes):
    return tiny_config(csv_path, data_transform="none", **{"model_depth": 2, **changes})


HOLD = """
import sys, time
from mlvpt.training.checkpoint import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(1)
"""


def parts_of(settings):
    splits = load_data(settings.data, 0)
    names = splits.train.class_names
    groups = build_groups(settings.model, splits.train.targets, names, 0)
    return splits, build_model(settings.model, groups, names)


@pytest.mark.parametrize("method", ["mlvpt", "linear_probe", "query_head"])
def test_a_run_on_kept_tokens_gives_the_numbers_of_a_run_on_images(tiny_csv, tmp_path, method):
    losses = []
    for cache in (None, str(tmp_path / "tokens")):
        settings = config(tiny_csv, model_method=method, data_token_cache=cache)
        folder = tmp_path / f"run_{cache is None}"
        train(settings, folder, progress=False)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_tokens_are_made_once(tiny_csv, tmp_path, monkeypatch):
    splits, model = parts_of(config(tiny_csv))
    (first,) = tokens.keep_tokens([splits.train], model, tmp_path, progress=False)
    monkeypatch.setattr(tokens, "_tokens", None)  # making one more would fail
    (again,) = tokens.keep_tokens([splits.train], model, tmp_path, progress=False)
    assert torch.equal(first.load_image(3), again.load_image(3))


def test_a_run_waits_while_another_makes_tokens(tiny_csv, tmp_path):
    splits, model = parts_of(config(tiny_csv))
    (first,) = tokens.keep_tokens([splits.train], model, tmp_path, progress=False)
    (home,) = tmp_path.iterdir()
    # another process holds the folder: a lock of this one would not keep this one out
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    (again,) = tokens.keep_tokens([splits.train], model, tmp_path, progress=False)
    assert holder.wait() == 0
    assert torch.equal(first.load_image(0), again.load_image(0))


def test_kept_tokens_are_given_to_training_without_a_random_stream(tiny_csv, tmp_path, monkeypatch):
    splits, model = parts_of(config(tiny_csv))
    (found,) = tokens.keep_tokens([splits.train], model, tmp_path, progress=False)
    monkeypatch.setattr(torch.random, "fork_rng", None)  # a seed for each image takes long
    image, target = AugmentedImages(found, as_is, model.image_size, seed=0)[0, 3]
    assert torch.equal(image, found.load_image(3))
    assert torch.equal(target, torch.from_numpy(splits.train.targets[3]))


def test_an_image_that_changed_gets_new_tokens(tiny_csv, tmp_path):
    splits, model = parts_of(config(tiny_csv))
    one = splits.train.subset([0])
    tokens.keep_tokens([one], model, tmp_path, progress=False)
    os.utime(one.image_path(0), (1, 1))
    tokens.keep_tokens([one], model, tmp_path, progress=False)
    (index,) = tmp_path.glob("*/index.json")
    assert len(json.loads(index.read_text())) == 2


def test_what_a_killed_process_left_behind_the_index_is_written_over(tiny_csv, tmp_path):
    splits, model = parts_of(config(tiny_csv))
    (first,) = tokens.keep_tokens([splits.train.subset([0])], model, tmp_path, progress=False)
    expected = first.load_image(0)
    (file,) = tmp_path.glob("*/tokens.bin")
    with file.open("ab") as stream:
        stream.write(b"half a token")
    both = tokens.keep_tokens([splits.train.subset([0, 1])], model, tmp_path, progress=False)[0]
    assert torch.equal(both.load_image(0), expected)
    fresh = tokens.keep_tokens([splits.train], model, tmp_path / "fresh", progress=False)[0]
    torch.testing.assert_close(both.load_image(1), fresh.load_image(1))


def test_other_blocks_and_sizes_have_tokens_of_their_own(tiny_csv, tmp_path):
    for changes in ({}, {"model_depth": 1}, {"model_image_size": 32}):
        splits, model = parts_of(config(tiny_csv, **changes))
        tokens.keep_tokens([splits.val], model, tmp_path, progress=False)
    assert len(list(tmp_path.glob("*/tokens.bin"))) == 3


def test_methods_that_share_the_blocks_below_share_their_tokens(tiny_csv, tmp_path):
    for method in ("vpt_deep", "bitfit", "full_finetuning", "e2vpt"):
        splits, model = parts_of(config(tiny_csv, model_method=method))
        tokens.keep_tokens([splits.val], model, tmp_path, progress=False)
    assert len(list(tmp_path.glob("*/tokens.bin"))) == 1


def test_an_index_that_is_none_is_refused_in_words(tiny_csv, tmp_path):
    splits, model = parts_of(config(tiny_csv))
    tokens.keep_tokens([splits.val], model, tmp_path, progress=False)
    (index,) = tmp_path.glob("*/index.json")
    index.write_text('{"a": 7}')
    with pytest.raises(InputError, match="is no index of kept tokens: remove the folder"):
        tokens.keep_tokens([splits.val], model, tmp_path, progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_depth": "deep"},
        {"model_method": "vpt_shallow"},
        {"model_method": "bitfit", "model_depth": "deep"},
    ],
)
def test_a_method_whose_every_block_is_trained_keeps_no_tokens(tiny_csv, tmp_path, changes):
    settings = config(tiny_csv, data_token_cache=str(tmp_path / "tokens"), **changes)
    with pytest.raises(InputError, match="there are no tokens to keep"):
        train(settings, tmp_path / "run", progress=False)


@pytest.mark.parametrize("changes", [{"data_transform": "official"}, {"data_skip_corrupt": True}])
def test_augmented_or_skipped_images_have_no_kept_tokens(tiny_csv, tmp_path, changes):
    with pytest.raises(InputError, match=r"data\.token_cache must be used with"):
        tiny_config(tiny_csv, **{"data_token_cache": "x", "data_transform": "none", **changes})


def test_without_held_out_images_all_are_trained_on_and_the_last_epoch_is_kept(tiny_csv, tmp_path):
    settings = config(tiny_csv, data_hold_out=False, optim_epochs=3, optim_lr=0.5)
    results = train(settings, tmp_path / "run", progress=False)["results"]
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert len(split["train"]) == 50
    assert results["best_epoch"] == 3
    assert set(results["metrics"]) == {"test"}
    assert results["thresholds"] == {}
    assert "at_tuned" not in results["metrics"]["test"]
