import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import ROOT, options_of, tiny_settings

from mlvpt.cli import main as cli
from mlvpt.files import read_json
from mlvpt.training.config import TrainConfig


def test_help_names_every_command_and_is_quick():
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "mlvpt", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in cli.COMMANDS)
    assert time.perf_counter() - began < 5  # half a second on a free machine


def test_help_imports_no_heavy_library():
    code = (
        "import sys, mlvpt.cli.main; mlvpt.cli.main.main(['--help']); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"mlvpt {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "unknown command 'trian': did you mean 'train'?"),
        (
            ["train", "--optim.epoch=2"],
            "unknown setting 'optim.epoch': did you mean 'optim.epochs'?",
        ),
        (["train", "--optim.epochs", "many"], "optim.epochs"),
        (["train", "--loss.kind", "al"], "loss.kind: choose one of asl, bce, focal; got al"),
        (["train", "--quite"], "unknown option '--quite': did you mean '--quiet'?"),
        (["evaluate", "run", "--job", "file"], "did you mean '--json'?"),
        (["train", "--recipe", "nonsense"], "no recipe 'nonsense'"),
        (["train", "--resume", "nowhere"], "nowhere holds no run"),
        (["train", "--resume", "a", "--recipe", "b"], "drop --recipe"),
        (["train", "--data.name", "voc2007"], "root"),
        (["predict", "nowhere", "absent.png"], "absent.png names no file"),
        (["evaluate", "nowhere"], "no run folder nowhere"),
        (["export", "nowhere"], "no run folder nowhere"),
        (["groups"], "nothing to group"),
        (["groups", "--dataset", "voc2099"], "voc2099"),
        (["groups", "--counts", "absent.csv"], "absent.csv: No such file"),
        (["groups", "--counts", "."], ".: Is a directory"),
        (["check", "--data.name", "manifest", "--data.root", "."], "is a folder: give the file"),
        (["check", "--data.name", "coco_json", "--data.root", "."], "is a folder: give the file"),
        (["train", "--model.image_size", "[48]", "--out", "r"], "image_size is (48,)"),
        (["train", "--model.image_size", "0", "--out", "r"], "image_size is 0"),
        (
            ["train", "--model.method", "e2vpt", "--model.start_from", "absent", "--out", "r"],
            "absent/model.safetensors is missing",
        ),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    text = capsys.readouterr().err
    assert sentence in text
    assert text.startswith("mlvpt: ")
    assert text.count("\n") == 1
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_a_file_where_a_folder_is_wanted_is_named(tiny_run, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert cli.main(["train", "--out", str(file)]) == 2
    assert cli.main(["demo", "--out", str(file)]) == 2
    assert cli.main(["groups", "--dataset", "voc2007", "--plot", str(file)]) == 2
    assert capsys.readouterr().err.count(str(file)) == 3


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device, tiny_run, capsys):
    assert cli.main(["evaluate", str(tiny_run), "--device", device]) == 2
    assert f"the device {device!r} cannot be used here" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--batch-size", "0"), ("--workers", "-1")])
def test_numbers_that_count_nothing_are_refused(option, tiny_run, capsys):
    assert cli.main(["evaluate", str(tiny_run), *option]) == 2
    assert "a whole number of" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", "tasse,caf\u00e9\n9,7\n7,9\n".encode("latin-1")])
def test_counts_without_a_readable_header_are_refused(content, tmp_path, capsys):
    (tmp_path / "counts.csv").write_bytes(content)
    assert cli.main(["groups", "--counts", str(tmp_path / "counts.csv")]) == 2
    assert "holds no header of names" in capsys.readouterr().err


def test_validation_images_of_changed_data_are_not_evaluated(tiny_csv, tiny_run, tmp_path, capsys):
    folder = shutil.copytree(tiny_csv.parent, tmp_path / "data")
    text = (folder / "tiny.csv").read_text().splitlines(keepends=True)
    (folder / "tiny.csv").write_text("".join(text[:1] + text[4:]))
    words = ["evaluate", str(tiny_run), "--data.root", str(folder / "tiny.csv"), "--split"]
    assert cli.main([*words, "val"]) == 2
    assert "the data changed" in capsys.readouterr().err
    assert cli.main([*words, "test"]) == 0


def test_study_of_an_own_recipe_goes_to_a_folder_of_its_name(tiny_csv, tmp_path, monkeypatch):
    recipe = tmp_path / "elsewhere" / "my.yaml"
    recipe.parent.mkdir()
    recipe.write_text(json.dumps(tiny_settings(tiny_csv)))
    asked = []
    monkeypatch.setattr(
        "mlvpt.studies.ablations.ablate", lambda *_, **how: asked.append(how["out"])
    )
    assert cli.main(["ablate", "baselines", "--recipe", str(recipe)]) == 0
    assert asked == [Path("results/my")]


def test_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("mlvpt.cli.data.groups", lambda _: [][0])
    with pytest.raises(IndexError):
        cli.main(["groups"])


def test_ctrl_c_is_exit_code_130(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlvpt.cli.data.check", interrupted)
    assert cli.main(["check"]) == 130
    assert "Ctrl-C" in capsys.readouterr().err


def test_groups_of_voc2007_are_printed_with_class_names(tmp_path, capsys):
    assert cli.main(["groups", "--dataset", "voc2007", "--output", str(tmp_path / "g.json")]) == 0
    text = capsys.readouterr().out
    assert all(f"{view} {group}" in text for view in ("CO", "DC") for group in range(5))
    assert "pottedplant" in text
    from mlvpt import LabelGroups

    assert LabelGroups.from_json(tmp_path / "g.json").n_groups == 5


def test_groups_of_own_counts_are_plotted(tmp_path, capsys):
    table = tmp_path / "counts.csv"
    table.write_text("cup,fork,car,bus\n9,7,0,1\n7,9,1,0\n0,1,9,6\n1,0,6,9\n")
    words = ["groups", "--counts", str(table), "--n-groups", "2", "--plot", str(tmp_path / "plots")]
    assert cli.main(words) == 0
    assert "cup, fork" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"affinity_co.png", "affinity_dc.png", "graph_co.png", "graph_dc.png"}


def test_counts_that_are_no_square_are_refused(tmp_path, capsys):
    (tmp_path / "counts.csv").write_text("cup,fork\n9,7\n")
    assert cli.main(["groups", "--counts", str(tmp_path / "counts.csv")]) == 2
    assert "K rows of K whole numbers" in capsys.readouterr().err


def test_check_lists_every_problem_and_exits_1(tiny_csv, tmp_path, capsys):
    folder = shutil.copytree(tiny_csv.parent, tmp_path / "data")
    (folder / "train_03.png").write_bytes(b"")
    (folder / "test_07.png").unlink()
    words = ["check", "--data.name", "manifest", "--data.root", str(folder / "tiny.csv")]
    assert cli.main(words) == 1
    text = capsys.readouterr().out
    assert "train_03.png" in text
    assert "test_07.png" in text
    assert "2 errors" in text


def test_train_evaluate_predict_and_export_one_after_the_other(
    tiny_csv, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    recipe = tmp_path / "own.yaml"
    recipe.write_text(json.dumps(tiny_settings(tiny_csv)))  # JSON is YAML
    words = ["train", "--recipe", str(recipe), "--optim.epochs", "1", "--out", str(run)]
    assert cli.main(words) == 0
    config = read_json(run / "config.json", "the configuration")
    assert config["optim"]["epochs"] == 1  # the command line wins over the recipe
    assert config["optim"]["batch_size"] == 8  # which wins over the default
    assert config["loss"]["gamma_neg"] == TrainConfig().loss.gamma_neg
    capsys.readouterr()

    assert cli.main(["evaluate", str(run), "--json", str(tmp_path / "e.json")]) == 0
    summary = read_json(run / "summary.json", "the summary")["results"]["metrics"]["test"]
    found = read_json(tmp_path / "e.json", "the evaluation")["results"]["test"]
    assert found["mAP"] == pytest.approx(summary["mAP"], abs=1e-9)
    assert f"{100 * summary['mAP']:.2f}" in capsys.readouterr().out

    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(tiny_csv.with_name("test_00.png"), photos / "good.png")
    (photos / "bad.png").write_bytes(b"no image")
    words = ["predict", str(run), str(photos), "--threshold", "tuned"]
    words += ["--json", str(tmp_path / "p.json"), "--csv", str(tmp_path / "p.csv")]
    assert cli.main([*words, "--annotate", str(tmp_path / "annotated")]) == 1
    output = capsys.readouterr()
    assert "good.png" in output.out
    assert output.err.count("\n") == 1
    assert "bad.png" in output.err
    assert (tmp_path / "annotated" / "good.png").is_file()
    assert len(read_json(tmp_path / "p.json", "predictions")) == 2

    # what is in the file is the business of test_exporting.py
    asked = []
    monkeypatch.setattr(
        "mlvpt.inference.export.export_model", lambda *words: asked.append(words) or 0.0
    )
    assert cli.main(["export", str(run), "--format", "torch"]) == 0
    assert asked[0][1:3] == (run / "model.pt2", "torch")


def test_unknown_split_is_refused_by_name(tiny_run, capsys):
    assert cli.main(["evaluate", str(tiny_run), "--split", "tset"]) == 2
    assert "it has train, val, test" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_run_with_a_missing_or_altered_file_is_refused(tiny_run, tmp_path, name, damage, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    path = run / "model" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "altered":
        path.write_bytes(content[:-20] + b"x" * 20)
    assert cli.main(["predict", str(run), str(ROOT / "pyproject.toml")]) == 2
    assert name in capsys.readouterr().err


def test_scenes_are_exported_and_train_from_there(tmp_path, capsys):
    words = ["scenes", "export", str(tmp_path / "voc"), "--layout", "voc", "--n-images", "12"]
    assert cli.main(words) == 0
    assert cli.main(["check", "--data.name", "voc2007", "--data.root", str(tmp_path / "voc")]) == 0
    settings = tiny_settings(tmp_path / "voc", data_name="voc2007", optim_epochs=1)
    assert (
        cli.main(["train", "--quiet", "--out", str(tmp_path / "run"), *options_of(settings)]) == 0
    )


def test_stopped_run_exits_with_the_signal_and_resumes(tiny_csv, tmp_path, monkeypatch, capsys):
    import signal

    from mlvpt.training.folder import RunFolder

    run, options = tmp_path / "run", options_of(tiny_settings(tiny_csv))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_metrics", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert cli.main(["train", "--quiet", "--out", str(run), *options]) == 143
    assert f"continue with --resume {run}" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(run), "--optim.lr", "1"]) == 2
    assert "optim.lr was 0.005, is 1.0" in capsys.readouterr().err
    assert cli.main(["train", "--quiet", "--resume", str(run)]) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
