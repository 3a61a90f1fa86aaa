import json
import re
import subprocess
import sys

import pytest
import torch

from mlvpt.files import read_json
from mlvpt.training import record


def test_record_says_where_a_number_comes_from(tmp_path):
    made = record.write_record(tmp_path / "r.json", {"mAP": 0.5}, seconds=1.234, seed=[0, 1])
    assert made == read_json(tmp_path / "r.json", "the record")
    assert made["results"] == {"mAP": 0.5}
    assert made["seconds"] == 1.23
    assert made["seed"] == [0, 1]
    assert made["versions"]["torch"] == torch.__version__.split("+")[0]
    assert made["peak_memory_mb"] > 10
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["date"])
    json.dumps(made)


def test_commit_is_none_in_a_repository_that_the_package_is_not_part_of(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q", tmp_path], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    assert record.commit() is None


DATA = ("results/study.jsonl", "results/README.md", "results/photographs/pairs.json")
CODE = ("results/__init__.py", "results/photographs/tool.py")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository that the package is part of, with a study's file."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "results/photographs").mkdir(parents=True)
    for name in ("record.py", *DATA, *CODE):
        (tmp_path / name).write_text("1\n")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    return tmp_path


def test_a_study_does_not_make_its_own_checkout_dirty(checkout):
    for name in DATA:
        (checkout / name).write_text("2\n")
    assert re.fullmatch(r"[0-9a-f]{12}", record.commit())


@pytest.mark.parametrize("name", ["record.py", *CODE])
def test_a_commit_with_changed_code_is_dirty(checkout, name):
    (checkout / name).write_text("2\n")
    assert record.commit().endswith("-dirty")


def test_memory_that_a_system_does_not_tell_can_still_be_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert record.write_record(tmp_path / "r.json", {}, seconds=1)["peak_memory_mb"] is None


def test_commit_is_none_outside_a_checkout(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", no_git)
    assert record.commit() is None


def test_command_has_no_machine_paths(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/bin/mlvpt", "train", "--out", "/somewhere/else/my run"])
    assert record.command() == "mlvpt train --out 'my run'"
    monkeypatch.setattr(sys, "argv", ["/somewhere/else/benchmarks/speed.py", "--quick"])
    assert record.command() == "python speed.py --quick"
