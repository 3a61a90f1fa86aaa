"""Where a number comes from: the record that accompanies every result.

A record is a JSON-able dict with the keys "command", "commit", "seed", "device", "versions",
"seconds", "peak_memory_mb" and "results". The files of results/ are such records.
"""

import importlib.metadata
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mlvpt.files import write_json

PACKAGES = ("torch", "timm", "accelerate", "scikit-learn", "numpy")


def command() -> str:
    """The command line of this process, as a reader would type it, without machine paths."""
    program = Path(sys.argv[0])
    start = ["mlvpt"] if program.name in ("mlvpt", "__main__.py") else ["python", program.name]
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(start + words)


def commit() -> str | None:
    """The commit that the package runs from, "-dirty" with uncommitted changes; None if unknown.

    Changed data in results/ does not count: a study adds to its files there after every run.
    """
    here = Path(__file__).resolve()
    # installed into an environment inside somebody's own repository, the package is not of it
    known = _git("ls-files", "--error-unmatch", here.name, folder=here.parent)
    if not known:
        return None
    name = _git("describe", "--always", "--abbrev=12", "--exclude=*", folder=here.parent)
    data = [f":(top,exclude)results/*.{suffix}" for suffix in ("json", "jsonl", "md")]
    changed = _git("status", "--porcelain", "--untracked-files=no", ":/", *data, folder=here.parent)
    return f"{name}-dirty" if name and changed else name


def _git(*words: str, folder: Path) -> str | None:
    """What a git command prints in the folder; None if it fails, or prints nothing."""
    try:
        result = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (result.returncode == 0 and result.stdout.strip()) or None


def device_name(device: Any = None) -> str:
    """The accelerator's name, or the processor's with its vector unit and number of threads.

    Args:
        device: a torch.device; None: the accelerator if there is one.
    """
    import torch

    kind = device.type if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    if kind != "cpu":
        return kind
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux: the short name has to do
    n_threads = torch.get_num_threads()
    return f"{name}, {vector_unit()}, {n_threads} thread{'s' if n_threads > 1 else ''}"


def vector_unit() -> str:
    """The widest vector unit that torch uses, such as "AVX-512"; speeds differ by it."""
    import torch

    return torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX-512")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_memory_mb(device: Any = None) -> float | None:
    """Largest memory so far in MiB: of the GPU if `device` is one, else of this process.

    None where the system does not tell (Windows).
    """
    import torch

    if device is not None and device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def make_record(
    results: Any, *, seconds: float, seed: int | list[int] | None = None, device: Any = None
) -> dict[str, Any]:
    """Wrap results in the record of how they came about.

    Args:
        results: anything JSON can hold.
        seconds: wall time of the work.
        seed: the seed, or the list of seeds.
        device: the torch.device it ran on; None: the accelerator if there is one.

    Returns:
        JSON-able dict, keys as in the module's docstring.
    """
    return {
        "command": command(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "device": device_name(device),
        "versions": versions(),
        "seconds": round(seconds, 2),
        "peak_memory_mb": peak_memory_mb(device),
        "results": results,
    }


def write_record(path: str | Path, results: Any, **how: Any) -> dict[str, Any]:
    """Write `make_record(results, **how)` to `path` as JSON, whole or not at all."""
    made = make_record(results, **how)
    write_json(path, made)
    return made
