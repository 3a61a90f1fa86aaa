import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mlvpt.cli import main as cli
from mlvpt.errors import InputError
from mlvpt.inference.predict import annotate, annotated_paths, find_images, predict_files
from mlvpt.training.build import load_model


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


@pytest.fixture
def photos(tiny_csv, tmp_path):
    """Two good pictures, one of them deep in a folder with an upper-case suffix, and two bad."""
    folder = tmp_path / "my photos"
    (folder / "ünter").mkdir(parents=True)
    shutil.copy(tiny_csv.with_name("test_00.png"), folder / "a.png")
    shutil.copy(tiny_csv.with_name("test_01.png"), folder / "ünter" / "b.PNG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    return folder


def test_folder_gives_its_images_and_nothing_else(photos):
    names = [path.name for path in find_images([photos])]
    assert names == ["a.png", "cut.png", "empty.jpg", "b.PNG"]


def test_globs_and_repeated_names_give_each_file_once(photos):
    found = find_images([photos / "*.png", photos / "a.png", str(photos / "**" / "*.PNG")])
    assert [path.name for path in found] == ["a.png", "cut.png", "b.PNG"]


@pytest.mark.parametrize("pattern", ["absent.png", "absent/*.png"])
def test_pattern_that_names_nothing_is_refused(tmp_path, pattern):
    with pytest.raises(InputError, match=r"absent.* names no file"):
        find_images([tmp_path / pattern])


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no image"):
        find_images([tmp_path])


def test_good_images_are_answered_and_bad_ones_named(model, photos):
    found = predict_files(model, find_images([photos]), batch_size=2)
    assert [path.name for path in found.paths] == ["a.png", "b.PNG"]
    assert {path.name for path in found.problems} == {"cut.png", "empty.jpg"}
    assert "0 bytes" in found.problems[photos / "empty.jpg"]
    images = [Image.open(path).convert("RGB") for path in found.paths]
    np.testing.assert_allclose(found.probabilities, model.probabilities(images), atol=1e-6)


def test_only_bad_images_give_an_empty_answer(model, photos):
    found = predict_files(model, [photos / "empty.jpg"])
    assert found.paths == []
    assert found.table() == ""
    assert len(found.problems) == 1


def test_picture_of_any_mode_and_size_is_answered(model, tmp_path):
    for mode in ("L", "RGBA", "I;16", "1", "CMYK"):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (31, 70)).save(tmp_path / f"{mode[:2]}.{suffix}")
    found = predict_files(model, find_images([tmp_path]))
    assert len(found.paths) == 5
    assert found.problems == {}


def test_labels_reach_their_class_threshold_most_probable_first(model, photos):
    low = predict_files(model, [photos / "a.png"], thresholds=0.0)
    values = list(low.labels(0).values())
    assert len(values) == 10
    assert values == sorted(values, reverse=True)
    only = np.ones(10)
    only[3] = 0.0
    assert list(predict_files(model, [photos / "a.png"], thresholds=only).labels(0)) == [
        model.class_names[3]
    ]


@pytest.mark.parametrize("thresholds", [1.5, float("nan"), np.zeros(3)])
def test_unusable_thresholds_are_refused(model, photos, thresholds):
    with pytest.raises(InputError, match="thresholds must be"):
        predict_files(model, [photos / "a.png"], thresholds=thresholds)


def test_json_and_csv_hold_the_same_numbers(model, photos, tmp_path):
    found = predict_files(model, find_images([photos]), thresholds=0.3)
    found.to_json(tmp_path / "p.json")
    found.to_csv(tmp_path / "p.csv")
    rows = json.loads((tmp_path / "p.json").read_text())
    with (tmp_path / "p.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table] == [row["image"] for row in rows[:2]]
    for row, line in zip(rows[:2], table, strict=True):
        assert line["labels"] == ";".join(row["labels"])
        for name, value in row["probabilities"].items():
            assert float(line[name]) == pytest.approx(value, abs=1e-6)
    assert {row["image"] for row in rows[2:]} == {str(path) for path in found.problems}


def test_annotating_never_replaces_an_image(model, photos):
    before = {path: path.read_bytes() for path in photos.glob("*.png")}
    for path in (photos / "a.png", photos / "cut.png"):  # one that is read, one that is not
        found = predict_files(model, [path])
        with pytest.raises(InputError, match="holds the images themselves"):
            annotate(model, found, photos)
    assert {path: path.read_bytes() for path in photos.glob("*.png")} == before


def test_annotated_picture_is_written_for_each_file(model, photos, tmp_path):
    shutil.copy(photos / "a.png", photos / "ünter" / "a.png")  # the same name again
    found = predict_files(model, find_images([photos]), thresholds=0.0)
    written = annotate(model, found, tmp_path / "annotated")
    assert len({*written}) == len(found.paths) == 3
    with Image.open(written[0]) as picture:
        assert picture.width > 300
        assert np.asarray(picture.convert("L")).std() > 10


def test_what_is_no_picture_in_a_folder_is_passed_over(photos):
    for name in ("._a.png", "film.mpg", "weights.h5", "table.csv"):
        (photos / name).write_bytes(b"\0\5\x16\7")
    names = [path.name for path in find_images([photos])]
    assert names == ["a.png", "cut.png", "empty.jpg", "b.PNG"]


def test_a_photograph_in_a_format_that_is_not_read_is_named(model, photos):
    (photos / "new.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    found = predict_files(model, find_images([photos]))
    assert "HEIC picture, which is not read here" in found.problems[photos / "new.heic"]


def test_closed_files_and_folders_take_no_other_answer_down(model, closed_to_us):
    pixels = io.BytesIO()
    Image.new("RGB", (48, 48), "red").save(pixels, "PNG")
    for name in ("good.png", "closed.png", "folder/inner.png"):
        (closed_to_us / name).parent.mkdir(exist_ok=True)
        (closed_to_us / name).write_bytes(pixels.getvalue())
    (closed_to_us / "closed.png").chmod(0)
    (closed_to_us / "folder").chmod(0)
    given = [closed_to_us, closed_to_us / "folder" / "inner.png"]
    found = predict_files(model, find_images(given))
    assert [path.name for path in found.paths] == ["good.png"]
    assert {path.name for path in found.problems} == {"closed.png", "folder", "inner.png"}
    assert all("may not be read" in text for text in found.problems.values())


@pytest.mark.parametrize("suffix", ["avif", "dds", "webp", "tif", "jp2", "tga"])
def test_a_damaged_file_of_any_format_takes_no_other_answer_down(model, photos, suffix):
    path = photos / f"odd.{suffix}"
    Image.open(photos / "a.png").convert("RGB").save(path)
    content = path.read_bytes()
    path.write_bytes(content[:20] + bytes(20) + content[40 : len(content) // 2])
    found = predict_files(model, [photos / "a.png", path])
    assert photos / "a.png" in found.paths
    assert path in found.problems
    assert "\n" not in found.problems[path]


def test_a_name_with_a_null_character_names_no_file():
    with pytest.raises(InputError, match="names no file"):
        find_images(["a\0.png"])


def test_annotating_never_replaces_a_picture_of_the_users_but_its_own_from_before(
    model, photos, tmp_path
):
    found, folder = predict_files(model, [photos / "a.png"]), tmp_path / "annotated"
    annotate(model, found, folder)
    annotate(model, found, folder)
    mine = (photos / "a.png").read_bytes()
    (folder / "a.png").write_bytes(mine)
    with pytest.raises(InputError, match=r"a\.png exists and was not written by this package"):
        annotate(model, found, folder)
    assert (folder / "a.png").read_bytes() == mine


def test_annotated_pictures_have_different_names_whatever_their_images_are_called(tmp_path):
    images = [tmp_path / name for name in ("a.png", "a.jpg", "A.gif", "a_2.png", "b/a.png")]
    images.append(tmp_path / ("x" * 255))
    names = {path.name.casefold() for path in annotated_paths(images, tmp_path).values()}
    assert len(names) == len(images)
    assert max(map(len, names)) <= 255
    again = annotated_paths(images[::-1], tmp_path)
    assert again == annotated_paths(images, tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--csv", "{a}"], "--csv: .* is read by this command"),
        (["--json", "{a}"], "--json: .* is read by this command"),
        (["--json", "{run}/model/config.json"], "is read by this command"),
        (["--csv", "{out}", "--json", "{out}"], "--csv and --json name one file"),
        (["--csv", "{photos}"], "is a folder: name a file"),
        (["--csv", ""], "is empty"),
        (["--annotate", "{out}", "--csv", "{out}/a.png"], "name one file"),
    ],
)
def test_an_output_that_would_destroy_something_is_refused_before_the_work(
    words, said, tiny_run, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("mlvpt.cli.model.load_model", lambda _: pytest.fail("the work began"))
    places = {"a": photos / "a.png", "run": tiny_run, "out": tmp_path / "out", "photos": photos}
    words = [word.format(**places) for word in words]
    assert cli.main(["predict", str(tiny_run), str(photos / "a.png"), *words]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_csv_to_standard_output_holds_nothing_else(tiny_run, photos, capfd):
    assert cli.main(["predict", str(tiny_run), str(photos / "a.png"), "--csv", "-"]) == 0
    rows = list(csv.reader(capfd.readouterr().out.splitlines()))
    assert [row[0] for row in rows] == ["image", str(photos / "a.png")]
