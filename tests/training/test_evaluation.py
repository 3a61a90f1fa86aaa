import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from mlvpt.datasets import MultiLabelDataset, load_manifest
from mlvpt.errors import InputError
from mlvpt.training.build import load_model
from mlvpt.training.evaluation import (
    evaluate,
    mean_ap,
    metrics_table,
    predict_dataset,
    tuned_thresholds,
)


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


@pytest.fixture(scope="module")
def test_images(tiny_csv):
    return load_manifest(tiny_csv, split="test")


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 3)) < 0.4).astype(np.int8)
    return targets, rng.random((40, 3)) * 0.5 + targets * 0.3


def test_probabilities_are_those_of_the_model(model, test_images):
    found = predict_dataset(model, test_images, batch_size=4)
    expected = model.probabilities([test_images.load_image(i) for i in range(10)]).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_number_of_workers_does_not_change_a_digit(model, test_images):
    alone = predict_dataset(model, test_images, batch_size=4)
    np.testing.assert_array_equal(
        predict_dataset(model, test_images, batch_size=4, workers=1), alone
    )


class OneOfThree:
    """What predict_dataset asks of Accelerate, for process `process_index` of three."""

    num_processes = 3

    def __init__(self, process_index, log):
        self.process_index, self.log = process_index, log

    def gather(self, rows):
        self.log.append(rows)
        return rows.repeat(3, 1)


def test_processes_together_compute_the_batches_of_one(model, test_images):
    alone = predict_dataset(model, test_images, batch_size=4)
    logs = [[], [], []]
    for index, log in enumerate(logs):
        accelerator = OneOfThree(index, log)
        predict_dataset(model, test_images, batch_size=4, accelerator=accelerator)
    together = torch.cat([rows for step in zip(*logs, strict=True) for rows in step])
    np.testing.assert_array_equal(together[:10].double().numpy(), alone)


@pytest.mark.parametrize("share", [1, 3])
def test_padding_is_decoded_once_and_changes_nothing(model, test_images, share, monkeypatch):
    expected = predict_dataset(model, test_images.subset(range(9)), batch_size=8)
    asked = []
    load = MultiLabelDataset.load_image

    def counted(self, index):
        asked.append(index)
        return load(self, index)

    monkeypatch.setattr(MultiLabelDataset, "load_image", counted)
    nine = test_images.subset(range(9))
    for index in range(share):
        accelerator = OneOfThree(index, []) if share == 3 else None
        predict_dataset(model, nine, batch_size=8, accelerator=accelerator)
    # of three processes, the third has no image of its own and computes the last one again
    assert sorted(asked) == [*range(9), *([8] if share == 3 else [])]
    monkeypatch.undo()
    # what padding was before: copies of the last image in the data set itself
    copies = test_images.subset([*range(9), *[8] * 7])
    np.testing.assert_array_equal(predict_dataset(model, copies, batch_size=8)[:9], expected)


def test_a_model_that_gives_nan_is_not_taken_for_unreadable_images(tiny_run, test_images):
    model = load_model(tiny_run)
    with torch.no_grad():
        next(value for _, value in model.trainable_parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="the model gives NaN"):
        predict_dataset(model, test_images, batch_size=4, skip_corrupt=True)
    with pytest.raises(InputError, match="the model gives NaN"):
        model.predict(test_images.load_image(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_predicts_nearly_the_same(tiny_run, test_images, dtype):
    model = load_model(tiny_run)
    expected = predict_dataset(model, test_images, batch_size=4)
    found = predict_dataset(model.to(dtype), test_images, batch_size=4)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_progress_counts_every_image_once(model, test_images):
    seen = []
    predict_dataset(model, test_images, batch_size=4, on_batch=seen.append)
    assert seen == [4, 8, 10]


def test_model_keeps_its_mode(model, test_images):
    model.train()
    predict_dataset(model, test_images.subset([0]), batch_size=1)
    assert model.training
    model.eval()


def test_no_images_are_refused(model, test_images):
    with pytest.raises(InputError, match="no images to predict"):
        predict_dataset(model, test_images.subset([]))


def test_evaluation_agrees_with_scikit_learn(scored):
    targets, probabilities = scored
    expected = average_precision_score(targets, probabilities, average=None)
    found = evaluate(targets, probabilities, ["a", "b", "c"])
    assert found["mAP"] == pytest.approx(expected.mean(), abs=1e-12)
    assert [found["per_class"][name]["AP"] for name in "abc"] == pytest.approx(list(expected))
    assert [found["per_class"][name]["positives"] for name in "abc"] == targets.sum(0).tolist()
    low, high = found["mAP_interval"]
    assert low < found["mAP"] < high


def test_every_metric_of_the_issue_is_there(scored):
    found = evaluate(*scored, ["a", "b", "c"], thresholds=[0.4, 0.5, 0.6])
    assert {"mAP", "mAP_voc2007", "mAP_voc2010"} < set(found)
    for kind in ("at_0.5", "at_tuned", "top3"):
        assert {"CP", "CR", "CF1", "OP", "OR", "OF1"} <= set(found[kind])


def test_tuned_thresholds_do_not_lower_f1_on_their_own_images(scored):
    thresholds = tuned_thresholds(*scored)
    found = evaluate(*scored, ["a", "b", "c"], thresholds)
    assert found["at_tuned"]["macro_F1"] >= found["at_0.5"]["macro_F1"]


def test_skipped_images_are_left_out_and_counted(scored):
    targets, probabilities = scored
    expected = evaluate(targets[1:], probabilities[1:], ["a", "b", "c"])
    probabilities = probabilities.copy()
    probabilities[0] = np.nan
    found = evaluate(targets, probabilities, ["a", "b", "c"])
    assert found["n_skipped"] == 1
    assert found | {"n_skipped": 0} == expected


def test_class_without_positives_is_excluded_and_named(scored):
    targets, probabilities = scored
    targets = targets.copy()
    targets[:, 1] = 0
    found = evaluate(targets, probabilities, ["a", "b", "c"])
    assert found["excluded_classes"] == ["b"]
    assert found["per_class"]["b"] == {"AP": None, "positives": 0}
    assert mean_ap(targets, probabilities) == found["mAP"]


def test_validation_images_without_labels_are_refused():
    with pytest.raises(InputError, match="no class has a positive label"):
        mean_ap(np.zeros((3, 2), np.int8), np.full((3, 2), 0.5))


def test_table_is_in_percent_and_aligned(scored):
    found = evaluate(*scored, ["a", "b", "c"])
    lines = metrics_table({"val": found, "test_shifted": found}).splitlines()
    assert f"{100 * found['mAP']:.2f}" in lines[1]
    assert len({len(line) for line in lines}) == 1
