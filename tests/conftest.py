"""A data set of 60 scenes with its own CSV, and one short run on it, shared by the tests."""

from pathlib import Path

import pytest
from tiny_runs import tiny_config, write_tiny_data


@pytest.fixture(scope="session")
def tiny_csv(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("tiny_data"))


@pytest.fixture(scope="session")
def tiny_run(tiny_csv, tmp_path_factory) -> Path:
    from mlvpt.training.loop import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_config(tiny_csv), folder, progress=False)
    return folder
