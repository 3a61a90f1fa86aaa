"""Sphinx extension: formulas without a network, by a MathJax that lies in the built book.

MathJax comes from the npm registry, once, into a cache folder; its hash is checked. Where neither
npm nor the registry can be reached, the pages load MathJax from its usual address instead, and the
build says so.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from sphinx.util import logging

VERSION = "3.2.2"
SHA256 = "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"
ARCHIVE = f"mathjax-{VERSION}.tgz"
ADDRESS = f"https://registry.npmjs.org/mathjax/-/{ARCHIVE}"
SCRIPT = "tex-mml-chtml.js"
FONTS = "output/chtml/fonts/woff-v2/"

logger = logging.getLogger(__name__)


def archive() -> Path | None:
    """MathJax as npm packs it, from the cache or from the registry; None if there is no way."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlvpt"
    path = cache / ARCHIVE
    if path.is_file() and _hash(path) == SHA256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        fetched = Path(folder) / ARCHIVE
        if not (_by_npm(fetched) or _by_http(fetched)):
            return None
        if _hash(fetched) != SHA256:
            raise ValueError(f"{ARCHIVE} from the npm registry is not the one that was reviewed.")
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copy(fetched, path)
    return path


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _by_npm(path: Path) -> bool:
    npm = shutil.which("npm")
    if npm is None:
        return False
    command = [npm, "pack", "--silent", f"mathjax@{VERSION}"]
    run = subprocess.run(command, cwd=path.parent, capture_output=True, timeout=120)
    return run.returncode == 0 and path.is_file()


def _by_http(path: Path) -> bool:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=60) as answer:
            path.write_bytes(answer.read())
    except OSError:
        return False
    return True


def use(app, config):
    """Point Sphinx at the copy before it writes the first page."""
    app.mathjax_archive = archive()
    if app.mathjax_archive is None:
        logger.info("MathJax is not at hand: the formulas of this build need a network.")
    else:
        config.mathjax_path = f"mathjax/{SCRIPT}"


def copy(app, exception):
    """Script and fonts into _static/mathjax, 2 MB of the archive's 20."""
    if exception or app.mathjax_archive is None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    with tarfile.open(app.mathjax_archive) as packed:
        for member in packed.getmembers():
            name = member.name.removeprefix("package/es5/")
            if member.isfile() and (name == SCRIPT or name.startswith(FONTS)):
                file = target / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(packed.extractfile(member).read())


def setup(app):
    app.connect("config-inited", use)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True}
