"""Overlays: colors, what is painted and what not, the legend; and the segment command."""

import io
import os

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ovseg.cli.segment import parse_classes, segment_command
from ovseg.errors import OvsegError
from ovseg.report.painting import borders, overlay, palette

NAMES = ["moon", "tree", "sea"]


def test_palette_is_stable_and_all_different():
    names = [f"class {index}" for index in range(847)]
    colors = palette(names)
    assert len(set(colors)) == 847
    assert colors == palette(names) and colors[:12] == palette(names[:12])
    assert all(0 <= channel <= 255 for color in colors for channel in color)
    assert palette([]) == []


def test_borders_by_hand():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    assert borders(labels).tolist() == [
        [False, True, False],
        [True, True, True],
        [False, False, False],
    ]


def test_pixels_are_blended_and_others_left_alone():
    image = np.full((40, 200, 3), 100, np.uint8)
    labels = np.zeros((40, 200), int)
    labels[:, 100:150] = 1
    labels[:, 150:] = 3  # no class: left as it is
    drawn = np.asarray(overlay(image, labels, NAMES, alpha=0.5, legend=False))
    assert drawn.shape == image.shape
    for column, index in ((10, 0), (120, 1)):
        expected = 0.5 * 100 + 0.5 * np.array(palette(NAMES)[index])
        np.testing.assert_allclose(drawn[20, column], expected, atol=1)
    assert (drawn[:, 150:] == 100).all()
    assert (drawn[:, 99].astype(int) < drawn[:, 98]).any()  # outlined
    assert (image == 100).all()


def test_alpha_zero_keeps_the_image_but_for_outlines():
    image = np.random.default_rng(0).integers(0, 256, (20, 170, 3), dtype=np.uint8)
    drawn = overlay(image, np.zeros((20, 170), int), NAMES, alpha=0, legend=False)
    assert np.array_equal(np.asarray(drawn), image)


def test_the_legend_lists_what_occurs():
    image = np.zeros((50, 300, 3), np.uint8)
    labels = np.zeros((50, 300), int)
    labels[:, :100] = 2
    with_two = overlay(image, labels, NAMES)
    assert with_two.width == 300 and with_two.height > 50
    below = np.asarray(with_two)[50:].reshape(-1, 3)
    present = {tuple(color) for color in below.tolist()}
    colors = palette(NAMES)
    assert colors[0] in present and colors[2] in present and colors[1] not in present
    hidden = overlay(image, labels, NAMES, hidden=[2])
    below = {tuple(color) for color in np.asarray(hidden)[50:].reshape(-1, 3).tolist()}
    assert colors[2] not in below
    assert (np.asarray(hidden)[:50, :99] == 0).all()


def test_the_legend_fits_any_width_and_number():
    names = [f"a rather long class name, number {index}" for index in range(40)]
    labels = np.arange(40)[:, None].repeat(30, 1)
    picture = overlay(np.zeros((40, 30, 3), np.uint8), labels, names)
    assert picture.width == 160 and picture.height > 40 * 12
    nothing = overlay(np.zeros((40, 30, 3), np.uint8), np.full((40, 30), 99), names)
    assert nothing.size == (30, 40)


def test_what_does_not_fit_is_refused():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        overlay(image, np.zeros((5, 4), int), NAMES)
    with pytest.raises(ValueError, match="alpha"):
        overlay(image, np.zeros((4, 5), int), NAMES, alpha=2)


# ------------------------------------------------------------------------------------- command


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(photo, classes, tiny_clip, tiny_maskformer, console=None, **options):
    return segment_command(
        photo,
        classes=classes,
        out=photo.with_name("overlay.png"),
        settings={
            "benchmarks.clip": str(tiny_clip),
            "benchmarks.maskformer": str(tiny_maskformer),
            "benchmarks.device": "cpu",
            **{f"benchmarks.{name}": value for name, value in options.items()},
        },
        console=console or Console(quiet=True),
    )


def test_segment_command(photo, tiny_clip, tiny_maskformer):
    console = Console(record=True, width=80, file=io.StringIO())
    shares = run(photo, "house, tree,sea, tree", tiny_clip, tiny_maskformer, console)
    assert list(shares) == ["house", "tree", "sea"]
    assert sum(shares.values()) == pytest.approx(1)
    with Image.open(photo.with_name("overlay.png")) as picture:
        assert picture.width == 160 and picture.height > 60
    text = console.export_text()
    assert "house" in text and "overlay.png" in text
    assert f"{100 * shares['house']:.1f} %" in text


def test_one_class_is_held_against_others(photo, tiny_clip, tiny_maskformer):
    shares = run(photo, ["house"], tiny_clip, tiny_maskformer)
    assert list(shares) == ["house"] and 0 <= shares["house"] <= 1


@pytest.mark.parametrize("classes", [["house"], ["house", "tree", "sea"]])
@pytest.mark.parametrize("threshold", [0.35, 1 - 1e-9])
def test_the_official_demo_s_inference_leaves_pixels_without_a_class(
    photo, tiny_clip, tiny_maskformer, classes, threshold
):
    options = {"inference": "best_mask", "ensemble_weight": 0.0, "mask_threshold": threshold}
    shares = run(photo, classes, tiny_clip, tiny_maskformer, **options)
    assert list(shares) == classes and sum(shares.values()) <= 1
    assert photo.with_name("overlay.png").is_file()
    if threshold > 0.9:  # no mask reaches it
        assert sum(shares.values()) == 0


@pytest.mark.parametrize("classes", ["", " , ", []])
def test_no_class(photo, classes):
    with pytest.raises(OvsegError, match="names nothing"):
        segment_command(photo, classes=classes, out=photo.with_name("x.png"))


def test_names_given_one_by_one_may_hold_commas():
    assert parse_classes(["road, route", "sky "]) == ["road, route", "sky"]


@pytest.mark.parametrize(
    ("image", "out", "message"),
    [
        ("missing.png", "x.png", r"missing\.png: the file does not exist"),
        ("text.png", "x.png", "not in a known image format"),
        ("photo.png", "x.txt", "end the name in"),
        ("photo.png", "no/x.png", "does not exist"),
        ("photo.png", "photo.png", "is the input itself"),
        ("photo.png", "link.png", "is a symbolic link"),
        ("photo.png", "folder.png", "is a folder: name a file"),
        ("photo.png", "pipe.png", "is a device or a pipe"),
    ],
)
def test_what_the_command_refuses(photo, image, out, message):
    (photo.parent / "text.png").write_text("not a picture")
    (photo.parent / "link.png").symlink_to("text.png")
    (photo.parent / "folder.png").mkdir()
    os.mkfifo(photo.parent / "pipe.png")
    with pytest.raises(OvsegError, match=message) as caught:
        segment_command(photo.with_name(image), classes="moon", out=photo.parent / out)
    assert "\n" not in str(caught.value)
