"""A data set of 60 scenes with its own CSV, and one short run on it, shared by the tests."""

import os
import shutil
import tempfile
from collections.abc import Iterator
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


@pytest.fixture
def closed_to_us() -> Iterator[Path]:
    """A folder, and an account that files can be closed to: root is somebody else meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="mlvpt-closed-"))  # pytest's own is closed to others
    folder.chmod(0o777)
    root = os.name == "posix" and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in [folder, *(p for p in folder.glob("*") if p.is_dir())]:
            path.chmod(0o777)
        shutil.rmtree(folder)
