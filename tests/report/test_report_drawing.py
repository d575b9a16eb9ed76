"""What a report is drawn with: outlines of masks, numbers in words, plots in the page's colors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu

from ovseg.report.cards import Gallery, judged, quoted
from ovseg.report.embedded import fitted
from ovseg.report.painting import masked_scene, outline
from ovseg.report.plots.canvas import COLORS, Canvas, percent, points, shortened, styled, themed
from ovseg.report.plots.classes import confusion_plot, gains_plot
from ovseg.report.plots.mined import distribution_plot, outscores
from ovseg.report.plots.scores import Arms, curve_plot, loss_plot, scores_plot, smoothed

ARMS = Arms({"original": "original CLIP", "both": "adapted CLIP"})


def filled(path, shape):
    """The pixels that the even-odd rule fills: parity of the vertical edges to their left."""
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=int)
    for loop in path.split("M")[1:]:
        numbers, rest = loop.removesuffix("z"), ""
        start, *_ = numbers.replace("h", " h").replace("v", " v").split(" h")[0].split(" v")
        x, y = (int(part) for part in start.split())
        first = (x, y)
        rest = numbers[len(start) :]
        moves = rest.replace("h", " h").replace("v", " v").split()
        for move in moves:
            by = int(move[1:])
            if move[0] == "h":
                x += by
                continue
            crossings[min(y, y + by) : max(y, y + by), x] += 1
            y += by
        if x == first[0]:  # the closing line
            crossings[min(y, first[1]) : max(y, first[1]), x] += 1
        else:
            assert y == first[1], "the closing line is straight"
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_fills_to_its_mask(mask):
    assert (filled(outline(mask), mask.shape) == mask).all()


def test_outlines_of_simple_masks():
    mask = np.zeros((6, 6), dtype=bool)
    assert outline(mask) == ""
    mask[1:3, 2:5] = True
    assert outline(mask).count("M") == 1 and "M2 1" in outline(mask)
    ring = np.ones((5, 5), dtype=bool)
    ring[2, 2] = False
    assert outline(ring).count("M") == 2


def test_a_scene_escapes_its_label():
    scene = masked_scene("<use/>", (4, 4), np.eye(4, dtype=bool), label='"><b>', kind="right")
    assert "<b>" not in scene and "&lt;b&gt;" in scene


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
)
def test_outscores_is_the_area_under_the_curve(first, second):
    better, worse = (np.sort(np.array(each, dtype=np.float64)) for each in (first, second))
    expected = mannwhitneyu(better, worse).statistic / (len(better) * len(worse))
    assert outscores(better, worse) == pytest.approx(expected)


def test_no_histogram_of_an_empty_group():
    some = np.array([0.1, 0.2])
    groups = {"right": some, "wrong": np.zeros(0)}
    assert distribution_plot("clip_similarity", groups, "right", "wrong") is None
    one = {"right": np.array([0.5]), "wrong": np.array([0.5])}
    plot = distribution_plot("clip_similarity", one, "right", "wrong")
    assert plot is not None and "50.0 %" in plot.reading
    shares = [row[1] for row in plot.table.rows]
    assert sum(float(share) for share in shares) == pytest.approx(100)


def test_running_means():
    values = np.array([4.0, 2.0, 0.0, 2.0])
    assert smoothed(values, 2).tolist() == [4.0, 3.0, 1.0, 1.0]


def test_numbers_as_people_read_them():
    assert (percent(0.1234), percent(None), percent(float("nan"))) == ("12.3", "–", "–")
    assert (points(-0.05), points(0.021), points(None)) == ("−5.0", "+2.1", "–")
    assert points(-0.0004) == points(0.0) == "+0.0"
    assert shortened("a very long compound noun", 10) == "a very lo…"
    assert fitted(1000, 500, 200) == (200, 100) and fitted(10, 4, 200) == (10, 4)


def test_colors_become_the_page_s_and_ids_the_plot_s():
    assert len(set(COLORS.values())) == len(COLORS)

    @styled
    def draw(name):
        canvas = Canvas(name)
        canvas.axes.plot([0, 1], [0, 1], color=COLORS["arm-1"], marker="o")
        canvas.axes.set_xlabel("cost ($) and $more$ <b>")
        return canvas.svg("a <line>")

    first, again, other = draw("one"), draw("one"), draw("two")
    assert first == again
    assert "var(--arm-1)" in first and COLORS["arm-1"] not in first
    assert 'id="one-' in first and 'id="two-' in other
    assert "cost ($) and $more$ &lt;b&gt;" in first and "a &lt;line&gt;" in first
    assert "metadata" not in first and not first.startswith("<?xml")
    assert themed('<svg viewBox="0 0 1 1"><path id="a"/></svg>', name="n", label="l").count("n-a")


def test_more_arms_than_markers_still_plot():
    labels = {f"arm{place}": f"model {place}" for place in range(11)}
    log = [
        {"arm": arm, "step": step, "loss": 1.0 / (step + 1)} for arm in labels for step in (0, 1, 2)
    ]
    plot = loss_plot(log, Arms(labels))
    assert len({row[0] for row in plot.table.rows}) == 11


def test_verdicts_in_words():
    pair = {"correct": False, "gt_category": "sea", "noun_category": "sky", "gt_share": 0.8}
    assert judged(pair) == ("wrong", "wrong: mostly sea")
    assert judged({**pair, "gt_category": None})[1] == "wrong: nothing labelled there"
    assert judged({**pair, "noun_category": None})[1].startswith("names nothing drawn")
    assert judged({**pair, "correct": True}) == ("right", "right")
    assert judged({**pair, "correct": None}) == ("unjudged", "not judged")


def test_captions_are_cut_at_code_points():
    captions = [{"caption_id": 1, "text": "A 🌊 sea & sky"}]
    mention = {"caption_id": 1, "surface": "sea", "char_start": 4, "char_end": 7}
    assert quoted(captions, [mention]) == "A 🌊 <mark>sea</mark> &amp; sky"
    assert quoted(captions, [{**mention, "caption_id": 2}]) == ""


def test_an_image_is_embedded_once(tmp_path):
    from PIL import Image
    from pycocotools import mask as coco_mask

    Image.new("RGB", (40, 20), "navy").save(tmp_path / "a.png")
    rle = coco_mask.encode(np.asfortranarray(np.eye(20, 40, dtype=np.uint8)))
    pair = {
        "noun": "sea", "image_path": "a.png", "mask_size": rle["size"],
        "mask_counts": rle["counts"], "clip_similarity": 0.3, "clip_margin": None,
        "area_fraction": 0.1, "captions": None, "mentions": None, "correct": None,
        "gt_category": None, "noun_category": None, "gt_share": None,
    }  # fmt: skip
    gallery = Gallery(tmp_path, 16)
    cards = [gallery.card(pair) for _ in range(3)]
    assert len(gallery.pictures) == 1 and gallery.pictures[0][1:3] == (16, 8)
    assert all('<use href="#image-0"/>' in card.scene for card in cards)
    missing = gallery.card({**pair, "image_path": "<gone>.png"})
    assert "the file does not exist" in missing.scene and "<gone>" not in missing.scene


# --------------------------------------------------------------------------------------
# Plots say what was measured, and no more


def mistake(arm, seen):
    return {
        "arm": arm, "class_name": "sea", "named": "sky", "seen": seen, "masks": 3, "share": 0.2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arm", "scored", "compared"),
    [
        ("both", ["original", "both"], True),
        ("both", ["both"], False),
        ("original", ["original"], False),
    ],
)
def test_mistakes_stand_beside_the_original_s_only_where_it_was_scored(arm, scored, compared):
    plot = confusion_plot([mistake(arm, True)], ARMS, arm, scored=scored, by="masks")
    assert ("original (masks)" in plot.table.columns) == compared
    assert {len(row) for row in plot.table.rows} == {len(plot.table.columns)} == {3 + compared}
    assert (">original CLIP<" in plot.svg) == (compared or arm == "original")


@pytest.mark.parametrize("seen", [None, True, False])
def test_seen_and_unseen_are_marked_only_where_they_are_known(seen):
    classes = [
        {
            "arm": arm, "class_id": 1, "class_name": "sea", "seen": seen, "iou": iou, "masks": 4,
        }
        for arm, iou in (("original", 0.25), ("both", 0.5))
    ]  # fmt: skip
    gains = gains_plot(classes, ARMS, "both", metric="iou")
    mistakes = confusion_plot([mistake("both", seen)], ARMS, "both", scored=["both"], by="share")
    known = seen is not None
    assert (">unseen<" in gains.svg) == (">seen<" in gains.svg) == known
    assert ("●" in gains.svg or "○" in gains.svg) == known
    assert ("unseen" in gains.reading) == ("unseen" in mistakes.reading) == known


def test_scores_are_read_where_there_are_some():
    row = {"arm": "both", "mask_acc_seen": 0.5, "mask_acc_unseen": None}
    row |= {"mask_acc_seen_low": 0.4, "mask_acc_seen_high": None}
    plot = scores_plot([row], ARMS, metric="mask_acc")
    assert plot.reading.startswith("Best on seen classes: adapted CLIP (50.0 %).")
    assert "unseen" not in plot.reading and ">unseen<" not in plot.svg
    none = row | {"mask_acc_seen": None}
    assert scores_plot([none], ARMS, metric="mask_acc") is None


def test_a_curve_over_fewer_images_says_so():
    row = {"arm": "both", "part": "seen", "phase": 1, "trains": "joint"}
    curve = [row | {"total_step": step, "accuracy": 0.1 * step} for step in (0, 5)]
    assert "images" not in curve_plot(curve, ARMS).reading
    assert "first 2 of 6 images" in curve_plot(curve, ARMS, cut="the first 2 of 6 images").reading
