"""data_prep/ against a server that the test starts: breaks, resumes, attacks, and counts."""

import errno
import hashlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from layouts import make_coco, make_nuswide, make_visual_genome, make_voc

SCRIPTS = Path(__file__).parents[2] / "data_prep"


@dataclass
class Site:
    """What the server has and how it misbehaves; it notes every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the next answer, then the connection ends
    ranges: bool = True
    shift: int = 0  # bytes by which the next partial answer misses what was asked for
    error: int | None = None  # HTTP status of every answer
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (file, Range)
    url: str = ""


@pytest.fixture
def site():
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name, wanted = self.path.rpartition("/")[2], self.headers["Range"]
            site.requests.append((name, wanted))
            if site.error or name not in site.files:
                self.send_error(site.error or 404)
                return
            body, total = site.files[name], len(site.files[name])
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
            start, site.shift = max(start - site.shift, 0), 0
            if start and start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("Content-Length", str(total - start))
            self.end_headers()
            end = total if site.cut_after is None else start + site.cut_after
            site.cut_after = None
            self.wfile.write(body[start:end])

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def prep(monkeypatch):
    """The shared module, without pauses between attempts."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("_download")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "CHUNK", 1000)
    return module


@pytest.fixture
def body() -> bytes:
    return bytes(range(256)) * 200  # 51,200 bytes


def archive_of(prep, site, body, **checksum):
    site.files["data.bin"] = body
    return prep.Archive("data.bin", site.url, **checksum)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_download_is_complete_and_verified(prep, site, body, tmp_path):
    archive = archive_of(prep, site, body, md5=md5(body), sha256=hashlib.sha256(body).hexdigest())
    path = prep.download(archive, tmp_path / "new folder")
    assert path.read_bytes() == body
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_download_again_asks_the_server_nothing(prep, site, body, tmp_path):
    archive = archive_of(prep, site, body, md5=md5(body))
    prep.download(archive, tmp_path)
    prep.download(archive, tmp_path)
    assert len(site.requests) == 1


def test_download_that_breaks_off_goes_on_with_the_rest_alone(prep, site, body, tmp_path):
    site.cut_after = 20_480
    prep.download(archive_of(prep, site, body, md5=md5(body)), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body
    assert site.requests == [("data.bin", None), ("data.bin", "bytes=20480-")]


def test_part_of_an_earlier_run_is_continued(prep, site, body, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(body[:777])
    prep.download(archive_of(prep, site, body, md5=md5(body)), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body
    assert site.requests == [("data.bin", "bytes=777-")]


def test_server_without_ranges_is_asked_for_all_of_it(prep, site, body, tmp_path):
    site.ranges = False
    (tmp_path / "data.bin.part").write_bytes(b"x" * 777)
    prep.download(archive_of(prep, site, body, md5=md5(body)), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body


def test_rest_that_does_not_fit_is_not_appended(prep, site, body, tmp_path):
    site.shift = 7
    (tmp_path / "data.bin.part").write_bytes(body[:777])
    prep.download(archive_of(prep, site, body), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body


def test_part_that_is_already_complete_is_only_verified(prep, site, body, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(body)
    prep.download(archive_of(prep, site, body, md5=md5(body)), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body


def test_part_that_is_longer_than_the_file_is_started_anew(prep, site, body, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(body + b"more")
    prep.download(archive_of(prep, site, body, md5=md5(body)), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_wrong_checksum_removes_the_file_and_says_so(prep, site, body, tmp_path, kind):
    archive = archive_of(prep, site, body, **{kind: "0" * 32})
    with pytest.raises(prep.PrepError, match=rf"{kind}.*not the published 0+.*has been removed"):
        prep.download(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_says_where_to_put_it(prep, site, tmp_path):
    archive = prep.Archive("gone.zip", site.url)
    with pytest.raises(prep.PrepError, match=rf"HTTP 404.*{tmp_path / 'gone.zip'}"):
        prep.download(archive, tmp_path)
    assert len(site.requests) == 1


def test_server_that_keeps_failing_is_given_up_and_the_part_kept(prep, site, body, tmp_path):
    site.error = 503
    (tmp_path / "data.bin.part").write_bytes(body[:777])
    with pytest.raises(prep.PrepError, match=r"broke off 6 times \(HTTP 503\).*777 bytes"):
        prep.download(archive_of(prep, site, body), tmp_path)
    assert (tmp_path / "data.bin.part").read_bytes() == body[:777]


def test_no_server_at_all_is_explained(prep, tmp_path):
    archive = prep.Archive("data.bin", "http://127.0.0.1:9")
    with pytest.raises(prep.PrepError, match="run again"):
        prep.download(archive, tmp_path)


def test_full_disk_keeps_the_part_and_the_next_run_goes_on(prep, site, body, tmp_path, monkeypatch):
    real_open = open

    class FullAfter:
        """A file on a disk with room for 5,000 bytes."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            if self.file.tell() + len(data) > 5000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    monkeypatch.setattr(
        prep, "open", lambda path, mode: FullAfter(real_open(path, mode)), raising=False
    )
    archive = archive_of(prep, site, body, md5=md5(body))
    with pytest.raises(prep.PrepError, match=r"disk .* is full.*data\.bin\.part is kept"):
        prep.download(archive, tmp_path)
    assert (tmp_path / "data.bin.part").read_bytes() == body[:5000]

    monkeypatch.delattr(prep, "open")
    prep.download(archive, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == body
    assert site.requests[-1] == ("data.bin", "bytes=5000-")


def test_disk_that_is_too_small_is_noticed_before_downloading(
    prep, site, body, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(prep.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(prep.PrepError, match=r"needs 51,200 bytes more .* has 1,000"):
        prep.download(archive_of(prep, site, body), tmp_path)


def test_interrupt_keeps_the_part(prep, site, body, tmp_path, monkeypatch):
    class Interrupting(prep.tqdm):
        def update(self, n=1):
            if self.n + n > 3000:
                raise KeyboardInterrupt
            super().update(n)

    monkeypatch.setattr(prep, "tqdm", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        prep.download(archive_of(prep, site, body), tmp_path)
    part = (tmp_path / "data.bin.part").read_bytes()
    assert len(part) >= 3000
    assert body.startswith(part)


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        for entry, entry_kind in (("good.txt", tarfile.REGTYPE), (name, kind)):
            info = tarfile.TarInfo(entry)
            info.type, info.linkname = entry_kind, link if entry_kind == kind else ""
            info.size = 4 if entry_kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"text"))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_archive_that_names_a_place_outside_is_refused_whole(prep, tmp_path, suffix, name):
    path = tmp_path / f"bad{suffix}"
    if suffix == ".tar":
        tar_with(path, name)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("good.txt", "text")
            archive.writestr(name, "text")
    target = tmp_path / "a" / "target"
    target.mkdir(parents=True)
    with pytest.raises(prep.PrepError, match="outside the target"):
        prep.unpack(path, target)
    assert list(target.iterdir()) == []  # not even the good entry
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_tar_with_a_link_or_device_is_refused_whole(prep, tmp_path, kind):
    path = tar_with(tmp_path / "bad.tar", "link", kind, link="/etc")
    with pytest.raises(prep.PrepError, match="link or a device"):
        prep.unpack(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_zip_with_a_symlink_is_refused_whole(prep, tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("good.txt", "text")
        archive.writestr(info, "/etc")
    with pytest.raises(prep.PrepError, match="link or a device"):
        prep.unpack(tmp_path / "bad.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_unsafe_entries_are_refused_without_the_tar_filter_of_newer_pythons(
    prep, tmp_path, monkeypatch
):
    monkeypatch.delattr(prep.tarfile, "data_filter", raising=False)
    with pytest.raises(prep.PrepError, match="outside the target"):
        prep.unpack(tar_with(tmp_path / "bad.tar", "../evil.txt"), tmp_path / "target")


def zip_folder(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def tar_folder(folder: Path, keep=lambda path: True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and keep(path):
                archive.add(path, path.relative_to(folder))
    return buffer.getvalue()


def test_damaged_archive_leaves_no_target(prep, site, tmp_path):
    folder = tmp_path / "source"
    make_coco(folder, sizes={"train": 4})
    site.files["data.zip"] = zip_folder(folder)[:-200]
    with pytest.raises(prep.PrepError, match=r"data\.zip is damaged"):
        prep.install(tmp_path / "root", "train2014", (prep.Archive("data.zip", site.url),))
    assert [p.name for p in (tmp_path / "root").iterdir()] == ["data.zip"]


def test_full_disk_while_unpacking_leaves_no_target(prep, site, tmp_path, monkeypatch):
    folder = tmp_path / "source"
    make_coco(folder, sizes={"train": 4})
    site.files["data.zip"] = zip_folder(folder)

    def full(self, member, path):
        (Path(path) / "train2014").mkdir(parents=True, exist_ok=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(prep.PrepError, match="is full"):
        prep.install(tmp_path / "root", "train2014", (prep.Archive("data.zip", site.url),))
    assert [p.name for p in (tmp_path / "root").iterdir()] == ["data.zip"]


def test_archive_without_the_target_is_explained(prep, site, tmp_path):
    make_coco(tmp_path / "source", sizes={"train": 2})
    site.files["data.zip"] = zip_folder(tmp_path / "source")
    with pytest.raises(prep.PrepError, match=r"data\.zip holds no val2014"):
        prep.install(tmp_path / "root", "val2014", (prep.Archive("data.zip", site.url),))


def script(prep, monkeypatch, name: str, known: dict):
    """A script whose archives carry no checksum and whose known counts are those of a miniature."""
    module = importlib.import_module(name)
    plain = {
        target: tuple(replace(archive, md5=None, sha256=None) for archive in archives)
        for target, archives in module.ARCHIVES.items()
    }
    monkeypatch.setattr(module, "ARCHIVES", plain)
    monkeypatch.setattr(module, "KNOWN", known)
    return module


def voc2007(prep, site, tmp_path, monkeypatch, known):
    make_voc(tmp_path / "source")
    test_ids = [f"2{i:05d}" for i in range(10)]
    belongs_to_test = lambda path: path.stem in test_ids or path.stem.endswith("test")  # noqa: E731
    site.files["VOCtrainval_06-Nov-2007.tar"] = tar_folder(
        tmp_path / "source", lambda path: not belongs_to_test(path)
    )
    site.files["VOCtest_06-Nov-2007.tar"] = tar_folder(tmp_path / "source", belongs_to_test)
    return script(prep, monkeypatch, "voc2007", known)


def test_voc2007_is_made_counted_and_left_alone_the_second_time(
    prep, site, tmp_path, monkeypatch, capsys
):
    known = {"trainval": {"images": 22, "image files missing": 0}, "test": {"images": 10}}
    module = voc2007(prep, site, tmp_path, monkeypatch, known)
    arguments = ["--root", str(tmp_path / "data"), "--base-url", site.url]
    assert module.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "images: 22 (as published)" in printed
    assert "ignored (difficult) labels" in printed
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["VOCdevkit"]

    asked = len(site.requests)
    assert module.main(arguments) == 0
    assert len(site.requests) == asked


def test_counts_that_differ_are_named(prep, site, tmp_path, monkeypatch, capsys):
    module = voc2007(prep, site, tmp_path, monkeypatch, {"test": {"images": 4952}})
    assert module.main(["--root", str(tmp_path / "data"), "--base-url", site.url]) == 1
    assert "VOC2007 test: images is 10, published 4,952" in capsys.readouterr().err


def test_archives_are_kept_if_asked(prep, site, tmp_path, monkeypatch):
    module = voc2007(prep, site, tmp_path, monkeypatch, {"test": {"images": 10}})
    root = tmp_path / "data"
    assert module.main(["--root", str(root), "--base-url", site.url, "--keep-archives"]) == 0
    assert (root / "VOCtest_06-Nov-2007.tar").exists()


def test_failure_is_one_sentence_and_an_interrupt_says_how_to_go_on(
    prep, site, tmp_path, monkeypatch, capsys
):
    module = script(prep, monkeypatch, "voc2012", {})
    arguments = ["--root", str(tmp_path), "--base-url", site.url]
    assert module.main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("_report"), "install", interrupt)
    assert module.main(arguments) == 130
    assert "run again to go on" in capsys.readouterr().err


def test_voc2012_is_made(prep, site, tmp_path, monkeypatch):
    make_voc(tmp_path / "source", 2012, sizes={"train": 5, "val": 4})
    site.files["VOCtrainval_11-May-2012.tar"] = tar_folder(tmp_path / "source")
    module = script(prep, monkeypatch, "voc2012", {"train": {"images": 5}, "val": {"images": 4}})
    assert module.main(["--root", str(tmp_path / "data"), "--base-url", site.url]) == 0


def test_coco2014_is_made(prep, site, tmp_path, monkeypatch):
    source = tmp_path / "source"
    make_coco(source, sizes={"train": 5, "val": 4})
    for part, name in (
        ("annotations", "annotations_trainval2014.zip"),
        ("train2014", "train2014.zip"),
        ("val2014", "val2014.zip"),
    ):
        (tmp_path / part).mkdir()
        shutil.move(source / part, tmp_path / part / part)
        site.files[name] = zip_folder(tmp_path / part)
    known = {"train": {"images": 6, "images with a label": 5, "image files missing": 0}}
    module = script(prep, monkeypatch, "coco2014", known)
    assert module.main(["--root", str(tmp_path / "data"), "--base-url", site.url]) == 0


def test_visual_genome_is_made(prep, site, tmp_path, monkeypatch):
    source = tmp_path / "source"
    make_visual_genome(source, n_images=30)
    for part, name in (
        ("image_data.json", "image_data.json.zip"),
        ("objects.json", "objects.json.zip"),
        ("VG_100K", "images.zip"),
        ("VG_100K_2", "images2.zip"),
    ):
        holder = tmp_path / f"zip {part}"
        holder.mkdir()
        shutil.move(source / part, holder / part)
        site.files[name] = zip_folder(holder)
    known = {"all": {"images": 30, "image files missing": 0}}
    module = script(prep, monkeypatch, "visual_genome", known)
    assert module.main(["--root", str(tmp_path / "data"), "--base-url", site.url]) == 0


@pytest.mark.parametrize("wrapped", [True, False])
def test_nuswide_lists_are_made_and_the_manual_step_is_told(
    prep, site, tmp_path, monkeypatch, capsys, wrapped
):
    source = tmp_path / "source"
    make_nuswide(source)
    for part, name in (
        ("ConceptsList", "ConceptsList.zip"),
        ("ImageList", "ImageList.zip"),
        ("Groundtruth", "Groundtruth.zip"),
    ):
        holder = tmp_path / f"zip {part}"
        holder.mkdir()
        shutil.move(source / part, holder / part)
        site.files[name] = zip_folder(holder if wrapped else holder / part)
    known = {"train": {"images": 12}, "test": {"images": 10}}
    module = script(prep, monkeypatch, "nuswide", known)
    root = tmp_path / "data"
    arguments = ["--root", str(root), "--base-url", site.url]
    assert module.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "Request them" in printed
    assert str(root / "Flickr" / "actor" / "0001_2124494179.jpg") in printed

    shutil.move(source / "Flickr", root / "Flickr")
    assert module.main(arguments) == 0
    assert "image files missing: 0" in capsys.readouterr().out


def test_known_counts_are_those_of_the_readme(prep):
    readme = (SCRIPTS / "README.md").read_text()
    for name in ("voc2007", "voc2012", "coco2014", "nuswide", "visual_genome"):
        for counts in importlib.import_module(name).KNOWN.values():
            for count in counts.values():
                assert f"{count:,}" in readme


def test_script_runs_from_the_command_line():
    result = subprocess.run(
        [sys.executable, "data_prep/voc2007.py", "--help"],
        cwd=SCRIPTS.parent,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "--base-url" in result.stdout
