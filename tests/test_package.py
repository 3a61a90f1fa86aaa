"""The package as a whole: its public names, its import, its metadata."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import mlvpt


@pytest.mark.parametrize("name", mlvpt.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(mlvpt, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mlvpt.nonsense  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    code = "import sys, mlvpt; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_common_class_imports_no_method():
    code = "import sys, mlvpt.classifier; print([n for n in sys.modules if n.startswith('mlvpt.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mlvpt.classifier" in done.stdout
    assert "mlvpt.model" not in done.stdout
    assert "mlvpt.baselines" not in done.stdout


def test_version_is_that_of_the_metadata():
    assert mlvpt.__version__ == version("mlvpt")
