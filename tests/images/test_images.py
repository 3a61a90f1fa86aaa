"""Images in every mode and state of repair, the named transforms, and the decoded cache."""

import io
import os
import pickle
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mlvpt.datasets import DecodedCache, MultiLabelDataset, load_scenes
from mlvpt.errors import InputError, Stopped
from mlvpt.images import (
    ImageError,
    eval_transform,
    normalize,
    open_rgb,
    read_picture,
    train_transform,
)
from mlvpt.training.data import EvaluationImages

NAMES = ("official", "ours", "none")


def picture(height: int = 40, width: int = 60) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def grey_ramp(dtype) -> np.ndarray:
    return np.linspace(0, np.iinfo(dtype).max, 256).astype(dtype).reshape(16, 16)


@pytest.fixture
def photos(tmp_path) -> MultiLabelDataset:
    """Six files of different sizes."""
    paths = []
    for index in range(6):
        paths.append(tmp_path / f"photo {index}.png")
        picture(30 + 5 * index, 50).rotate(7 * index).save(paths[-1])
    targets = np.eye(6, 3, dtype=np.int8)
    return MultiLabelDataset(targets=targets, class_names=["a", "b", "c"], images=paths)


# --- reading files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", ".png"),
        ("RGB", ".JPG"),
        ("L", ".png"),
        ("1", ".png"),
        ("P", ".gif"),
        ("CMYK", ".jpg"),
        ("CMYK", ".tif"),
        ("YCbCr", ".jpg"),
        ("LA", ".png"),
        ("RGBA", ".png"),
        ("I;16", ".png"),
        ("I;16", ".tif"),
        ("F", ".tif"),
    ],
)
def test_every_mode_opens_as_rgb_and_looks_like_its_grey_original(tmp_path, mode, suffix):
    ramp = grey_ramp(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey_ramp(np.uint16))
    elif mode == "F":
        image = Image.fromarray(ramp.astype(np.float32) / 255)
    else:
        image = Image.fromarray(ramp).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    path = tmp_path / f"Bild ä {mode.replace(';', '')}{suffix}"
    image.save(path)
    opened = open_rgb(path)
    assert (opened.mode, opened.size) == ("RGB", (16, 16))
    difference = np.asarray(opened).astype(int).mean(-1) - ramp
    # One bit per pixel is dithered: only the mean can be right.
    assert np.abs(difference.mean()) < 8
    if mode != "1":
        assert np.abs(difference).max() < 24


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "x.png")
    assert set(np.asarray(open_rgb(tmp_path / "x.png")).ravel()) == {128}


def test_dark_sixteen_bit_grey_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "x.png")
    assert np.asarray(open_rgb(tmp_path / "x.png")).max() == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    path = tmp_path / "x.png"
    if mode == "P":
        image.convert("P").save(path, transparency=0)
    else:
        image.convert(mode).save(path)
    assert np.asarray(open_rgb(path)).min() == 255


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
    picture(20, 30).save(tmp_path / "x.jpg", exif=exif)
    assert open_rgb(tmp_path / "x.jpg").size == (20, 30)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_file_is_refused_with_its_path(tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"
    buffer = io.BytesIO()
    picture(200, 200).save(buffer, format={".jpg": "JPEG", ".png": "PNG"}[suffix])
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(InputError, match=rf"broken\{suffix} is truncated .*again"):
        open_rgb(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"<html>404</html>", "not an image"), (None, "there is no image file")],
)
def test_empty_foreign_and_missing_files_are_refused_with_their_path(tmp_path, content, message):
    path = tmp_path / "odd.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"odd\.jpg.*{message}|{message}.*odd\.jpg"):
        open_rgb(path)


def saved_bytes(kind: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def kind_of(path) -> str:
    with pytest.raises(ImageError, match=rf"^[^\n]*{re.escape(path.name)}[^\n]*$") as caught:
        open_rgb(path)
    return caught.value.kind


FOREIGN = {
    "a.mpg": (b"\x00\x00\x01\xba" + bytes(40), "not an image"),
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "not an image"),
    "a.grib": (b"GRIB" + bytes(3) + b"\x01" + bytes(40), "not an image"),
    "a.bufr": (b"BUFR" + bytes(40), "not an image"),
    "._a.png": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(40), "not an image"),
    "movie.jpg": (b"\x00\x00\x00\x18ftypmp42" + bytes(40), "not an image"),
    "a.zip.png": (b"PK\x03\x04" + bytes(40), "not an image"),
    "404.jpg": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "noise.png": (bytes(range(100, 200)), "not an image"),
    "a.svg": (b"<?xml version='1.0'?><svg></svg>", "unsupported format"),
    "a.heic": (b"\x00\x00\x00\x18ftypheic" + bytes(40), "unsupported format"),
    "a.jxl": (b"\xff\x0a" + bytes(40), "unsupported format"),
    "a.pdf": (b"%PDF-1.4" + bytes(40), "unsupported format"),
    "a.xcf": (b"gimp xcf v011" + bytes(40), "unsupported format"),
    "head.jpg": (b"\xff\xd8\xff" + bytes(40), "damaged"),
    "head.png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged"),
    "head.dds": (b"DDS |" + bytes(40), "damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_file_is_instead_of_a_readable_picture_is_said(tmp_path, name):
    content, kind = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize("position", ["header", "pixels", "checksum"])
def test_a_flipped_byte_of_a_png_is_noticed(tmp_path, position):
    content = bytearray(saved_bytes("PNG"))
    pixels = content.index(b"IDAT") + 4
    at = {"header": 20, "pixels": pixels + 200, "checksum": content.index(b"IEND") - 5}[position]
    content[at] ^= 4
    (tmp_path / "a.png").write_bytes(content)
    assert kind_of(tmp_path / "a.png") == "damaged"


CUT = {
    "png": {},
    "jpeg": {},
    "gif": {},
    "bmp": {},
    "webp": {},
    "tiff": {"compression": "jpeg"},
    "jp2": {},
}


@pytest.mark.parametrize("suffix", CUT)
def test_a_picture_without_its_end_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    picture(60, 80).save(path, **CUT[suffix])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    assert kind_of(path) in ("truncated", "damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", ["one pixel", "all"])
def test_float_pictures_of_nan_or_infinity_are_refused(tmp_path, value, share):
    pixels = np.ones((6, 6), np.float32)
    pixels[(2, 3) if share == "one pixel" else ...] = value
    Image.fromarray(pixels).save(tmp_path / "heights.tif")
    assert kind_of(tmp_path / "heights.tif") == "not finite"


def test_a_picture_beyond_the_limit_of_pixels_is_too_large(tmp_path, monkeypatch):
    picture(40, 60).save(tmp_path / "poster.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert kind_of(tmp_path / "poster.png") == "too large"


ODD_ERRORS = [TypeError("x"), KeyError("x"), NotImplementedError("x"), zlib.error("x"),
              OverflowError("x"), AttributeError("x"), AssertionError(), RuntimeError("a\nb"),
              struct.error("x"), MemoryError(), OSError(5, "Input/output error")]  # fmt: skip


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_format_plugin_raises_becomes_one_sentence(tmp_path, monkeypatch, error):
    def fail(self):
        raise error

    picture().save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    expected = {NotImplementedError: "unsupported format", MemoryError: "too large"}
    default = "not readable" if isinstance(error, OSError) else "damaged"
    assert kind_of(tmp_path / "a.png") == expected.get(type(error), default)


def test_a_signal_while_an_image_is_decoded_is_no_damage(tmp_path, monkeypatch):
    def stop(self):
        raise Stopped("stopped by SIGTERM", 143)

    picture().save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", stop)
    with pytest.raises(Stopped):
        open_rgb(tmp_path / "a.png")


def test_a_file_and_a_folder_that_are_closed_are_called_so(closed_to_us):
    folder = closed_to_us / "folder"
    folder.mkdir()
    for path in (closed_to_us / "a.png", folder / "b.png"):
        picture().save(path)
    (closed_to_us / "a.png").chmod(0)
    folder.chmod(0)
    for path in (closed_to_us / "a.png", folder / "b.png", folder):
        assert kind_of(path) == "no permission"


def test_a_folder_a_pipe_and_a_name_that_is_none_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert kind_of(tmp_path / "pipe.png") == "not an image"
    assert kind_of(tmp_path) == "not an image"
    assert kind_of(tmp_path / ("x" * 300)) == "not readable"
    with pytest.raises(ImageError, match=r"a\\x00b"):
        open_rgb("a\0b")


def test_an_image_error_keeps_its_kind_when_it_comes_from_another_process():
    error = pickle.loads(pickle.dumps(ImageError("a.png is damaged.", "truncated")))
    assert (str(error), error.kind) == ("a.png is damaged.", "truncated")


def test_a_picture_is_the_same_in_every_form(tmp_path):
    image = picture()
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    forms = [image, tmp_path / "a.png", str(tmp_path / "a.png"), array]
    forms += [torch.tensor(array).permute(2, 0, 1), array[::1, ::1]]
    for form in forms:
        np.testing.assert_array_equal(np.asarray(read_picture(form)), array)
    grey = np.asarray(read_picture(array[:, :, :1]))
    np.testing.assert_array_equal(grey, array[:, :, :1].repeat(3, axis=2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "one is a NoneType"),
        (3, "one is a int"),
        (np.zeros((4, 4, 3)), "uint8.*float64"),
        (torch.zeros(3, 4, 4), "uint8.*float32"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"one picture.*shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(source, message):
    with pytest.raises(InputError, match=message):
        read_picture(source)


# --- the data set class --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[1, 0, 2]], "image 0, class 2 has 2"),
        ([[1, 0, float("nan")]], "image 0, class 2 has nan"),
        ([[1, 0]], "3 class names were given for 2 classes"),
        ([1, 0, 1], r"\(N, K\) array"),
        ([[1, 0, 1], [0, 0, 0]], "1 images but 2 rows"),
    ],
)
def test_bad_targets_are_refused_in_words(targets, message):
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(InputError, match=message):
        MultiLabelDataset(targets=targets, class_names=["a", "b", "c"], images=pixels)


def test_repeated_class_names_are_refused():
    with pytest.raises(InputError, match="'a' is given more than once"):
        MultiLabelDataset(targets=[[1, 0]], class_names=["a", "a"], images=["a.png"])


def test_paths_name_the_images_and_arrays_are_numbered(photos):
    assert photos.image_ids[1] == "photo 1"
    assert photos.image_path(1).name == "photo 1.png"
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    arrays = MultiLabelDataset(targets=[[1]], class_names=["a"], images=pixels)
    assert arrays.image_ids == ["0"]
    assert arrays.image_path(0) is None


def test_pil_images_serve_as_a_source():
    images = [picture().convert("L")]
    dataset = MultiLabelDataset(targets=[[-1]], class_names=["a"], images=images)
    assert dataset.load_image(0).mode == "RGB"


def test_writing_into_a_target_does_not_reach_the_dataset(photos):
    photos[0][1][:] = -1
    assert photos.targets[0].tolist() == [1, 0, 0]


def test_subset_takes_masks_integers_and_nothing(photos):
    assert photos.subset(photos.targets[:, 1] == 1).image_ids == ["photo 1"]
    assert photos.subset([-1, 0]).image_ids == ["photo 5", "photo 0"]
    assert len(photos.subset([])) == 0


def test_repr_counts_images_classes_and_labels(photos):
    assert "6 images, 3 classes, 0.50 labels per image" in repr(photos)


# --- transforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, (24, 40)])
def test_training_transforms_give_uint8_of_the_size_asked(name, size):
    torch.manual_seed(0)
    out = train_transform(name, size)(picture())
    assert type(out) is torch.Tensor
    assert out.dtype == torch.uint8
    assert out.shape == (3, *((size, size) if isinstance(size, int) else size))


@pytest.mark.parametrize("name", ["official", "ours"])
def test_random_transforms_follow_the_torch_seed(name):
    transform = train_transform(name, 32)

    def draws(seed):
        torch.manual_seed(seed)
        return torch.stack([transform(picture()) for _ in range(8)])

    assert torch.equal(draws(1), draws(1))
    assert not torch.equal(draws(1), draws(2))


def test_official_covers_at_most_a_quarter_with_one_colour_and_moves_nothing_else():
    plain = eval_transform(32)(picture())
    transform = train_transform("official", 32)
    torch.manual_seed(0)
    seen = 0
    for _ in range(60):
        out = transform(picture())
        changed = (out != plain).any(0)
        covered = out[:, changed].unique(dim=1).shape[1] == 1
        if covered:  # one time in four no RandAugment operation was drawn: the cutout is alone
            seen += 1
            assert 0 < changed.sum() <= 16 * 16
    assert seen >= 5


def test_none_is_the_evaluation_transform():
    assert torch.equal(train_transform("none", 20)(picture()), eval_transform(20)(picture()))


def test_squash_keeps_the_whole_image():
    image = Image.new("RGB", (80, 40))
    image.paste("white", (0, 0, 20, 40))  # the left quarter is white
    assert eval_transform(40)(image).float().mean() == pytest.approx(255 / 4, abs=3)


def test_squash_gives_the_exact_size_for_awkward_sides():
    assert eval_transform((33, 47))(picture(101, 57)).shape == (3, 33, 47)


def test_a_scene_passes_the_none_transform_unchanged():
    scene = load_scenes("val", n_images=1).load_image(0)
    out = train_transform("none", 48)(scene)
    np.testing.assert_array_equal(out.permute(1, 2, 0).numpy(), np.asarray(scene))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_transform("offical", 32), "no transform 'offical': use one of official"),
        (lambda: eval_transform((1, 2, 3)), "image size"),
        (lambda: normalize(torch.zeros(1, 3, 2, 2), (0.5,) * 3, (0.5,) * 3), "takes uint8"),
    ],
)
def test_bad_transform_arguments_are_refused_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_normalize_takes_mean_and_deviation_per_channel():
    batch = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    out = normalize(batch, mean, std)
    for c in range(3):
        expected = (batch[:, c].double() / 255 - mean[c]) / std[c]
        torch.testing.assert_close(out[:, c].double(), expected, atol=1e-5, rtol=0)


# --- decoded cache -------------------------------------------------------------------------------


def test_the_cache_gives_what_the_dataset_gives_at_equal_size(photos):
    cache, transform = DecodedCache(photos, storage_size=32), eval_transform(32)
    for _ in range(2):  # decoded, then read back
        for index in range(len(photos)):
            expected = transform(photos.load_image(index))
            assert torch.equal(transform(cache.load_image(index)), expected)


def test_a_cached_image_is_not_opened_again(photos):
    cache = DecodedCache(photos, storage_size=20)
    before = np.asarray(cache.load_image(2))
    photos.image_path(2).unlink()
    np.testing.assert_array_equal(np.asarray(cache.load_image(2)), before)


def test_a_set_that_does_not_fit_is_cached_in_part_and_says_so(photos):
    bytes_each = 20 * 20 * 3
    with pytest.warns(UserWarning, match="2 of 6 images .* fit"):
        cache = DecodedCache(photos, storage_size=20, max_gb=2.5 * bytes_each / 1e9)
    images = [np.asarray(cache.load_image(index)) for index in range(6)]
    assert cache.n_cached == 2
    full = DecodedCache(photos, storage_size=20)
    for index in range(6):  # cached or not, the transform sees the same pixels
        np.testing.assert_array_equal(images[index], np.asarray(full.load_image(index)))


def test_workers_share_the_cache(photos):
    cache, transform = DecodedCache(photos, storage_size=24), eval_transform(24)
    images = EvaluationImages(cache, transform, (24, 24))
    loader = DataLoader(images, batch_size=2, num_workers=2, multiprocessing_context="fork")
    pixels = torch.cat([batch for batch, _ in loader])
    expected = [transform(photos.load_image(index)) for index in range(6)]
    assert torch.equal(pixels, torch.stack(expected))
    for index in range(6):
        photos.image_path(index).unlink()
        cache.load_image(index)  # filled by the workers, visible here


def test_the_cache_shows_the_labels_of_its_dataset(photos):
    cache = DecodedCache(photos, storage_size=16)
    assert cache.targets is photos.targets
    assert (len(cache), cache.class_names) == (6, ["a", "b", "c"])


def test_transforms_survive_pickling():
    for name in NAMES:
        torch.manual_seed(0)
        expected = train_transform(name, 16)(picture())
        copy = pickle.loads(pickle.dumps(train_transform(name, 16)))
        torch.manual_seed(0)
        assert torch.equal(copy(picture()), expected)
