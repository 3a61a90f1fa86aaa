"""Fuzzing of what a user gives: manifests, and pictures with flipped and missing bytes.

The only outcomes are the right answer or an InputError of one sentence.
"""

import csv
import io
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlvpt.datasets import check_dataset, load_manifest
from mlvpt.errors import InputError
from mlvpt.images import ImageError, read_rgb

# --- pictures ------------------------------------------------------------------------------------

FORMATS = {
    "PNG": ("PNG", {}),
    "JPEG": ("JPEG", {}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "GIF": ("GIF", {}),
    "BMP": ("BMP", {}),
    "TIFF": ("TIFF", {}),
    "TIFF of LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF of JPEG": ("TIFF", {"compression": "jpeg"}),
    "WebP": ("WEBP", {}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "DDS": ("DDS", {}),
    "TGA": ("TGA", {}),
    "PPM": ("PPM", {}),
    "JPEG 2000": ("JPEG2000", {}),
}
N_DAMAGED = 150  # of each format, flipped and cut each


def encoded(name: str) -> bytes:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8))
    kind, options = FORMATS[name]
    buffer = io.BytesIO()
    coarse.resize((48, 40), Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def outcome(content: bytes) -> Image.Image | None:
    """The picture, or None for an error of one sentence that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about what it could read all the same
        try:
            image = read_rgb(io.BytesIO(content), "odd.img")
        except ImageError as error:
            text = str(error)
            image = None
    if image is None:
        assert text.startswith("odd.img")
        assert "\n" not in text
        return None
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_byte_gives_a_picture_or_one_sentence(name):
    content, rng = encoded(name), np.random.default_rng(1)
    for number in range(N_DAMAGED):
        damaged = bytearray(content)
        end = len(content) if number % 2 else min(100, len(content))  # half of them in the header
        damaged[rng.integers(end)] ^= int(rng.integers(1, 256))
        image = outcome(bytes(damaged))
        if name == "PNG":  # has checksums: a byte that matters is noticed
            assert image is None or image.tobytes() == outcome(content).tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_file_gives_the_whole_picture_or_one_sentence(name):
    content, rng = encoded(name), np.random.default_rng(2)
    whole = outcome(content).tobytes()
    for length in rng.integers(0, len(content), N_DAMAGED):
        image = outcome(content[:length])
        assert image is None or image.tobytes() == whole


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_of_chance_behind_a_header_give_a_picture_or_one_sentence(name):
    content, rng = encoded(name), np.random.default_rng(3)
    for _ in range(N_DAMAGED // 3):
        kept = int(rng.integers(4, 60))
        outcome(content[:kept] + rng.bytes(int(rng.integers(0, 400))))


# --- manifests -----------------------------------------------------------------------------------

FUZZING = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
WORDS = st.sampled_from(["cat", "dog", "Cat", " dog", "", "traffic light", "0", "é", '"', "a;b"])
NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=6) | WORDS
CELLS = st.sampled_from(["1", "0", "-1", "", " 1", "1.0", "2", "yes", "nan"]) | NAMES


def loaded(folder, text: str | bytes):
    """The data set of a manifest, or None for an error of one sentence that names the file."""
    path = folder / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    try:
        dataset = load_manifest(path)
    except InputError as error:
        dataset, message = None, str(error)
    if dataset is None:
        assert "own.csv" in message
        assert "\n" not in message
        return None
    assert set(np.unique(dataset.targets)) <= {-1, 0, 1}
    assert dataset.targets.shape == (len(dataset), len(dataset.class_names))
    assert all(str(problem) for problem in check_dataset(dataset, progress=False))
    return dataset


@FUZZING
@given(st.text() | st.text(st.sampled_from('path,labels;spt\n\r\t"01-é\0 ')))
def test_any_text_is_a_data_set_or_one_sentence(tmp_path, text):
    if "\ud800" <= max(text, default="") <= "\udfff":
        return
    loaded(tmp_path, text.encode("utf-8", "replace"))
    loaded(tmp_path, b"path,labels\n" + text.encode("utf-8", "replace"))


@FUZZING
@given(st.binary(max_size=80))
def test_any_bytes_are_a_data_set_or_one_sentence(tmp_path, content):
    loaded(tmp_path, content)
    loaded(tmp_path, b"path,labels\n" + content)


@FUZZING
@given(
    st.lists(NAMES, min_size=1, max_size=4),
    st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6),
    st.sampled_from([",", ";", "\t"]),
)
def test_any_class_columns_are_a_data_set_or_one_sentence(tmp_path, names, rows, delimiter):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["path", *names])
    writer.writerows([f"{i}.png", *cells] for i, cells in enumerate(rows))
    loaded(tmp_path, text.getvalue())


LABELS = st.text("abcdefgh ", min_size=1, max_size=5).map(str.strip).filter(bool)


@FUZZING
@given(st.lists(st.sets(LABELS, max_size=4), min_size=1, max_size=8).filter(any), st.booleans())
def test_a_sound_manifest_is_read_as_it_was_written(tmp_path, labels, as_columns):
    names = sorted(set().union(*labels))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", *names] if as_columns else ["path", "labels"])
    for i, row in enumerate(labels):
        cells = [int(name in row) for name in names] if as_columns else [";".join(sorted(row))]
        writer.writerow([f"{i}.png", *cells])
    dataset = loaded(tmp_path, text.getvalue())
    if {"path", "split", "labels"} & set(names):
        return  # as columns they mean something else
    assert dataset.class_names == names
    assert dataset.targets.tolist() == [[int(name in row) for name in names] for row in labels]
