"""Metrics against hand-computed values, a slow reference, properties and recorded vectors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from ovseg.evaluation.metrics import (
    Confusion,
    count_masks,
    harmonic_mean,
    mask_scores,
    segmentation_scores,
)

IGNORE = 255


def confusion_of(pairs, num_classes, ignore=IGNORE):
    confusion = Confusion(num_classes, ignore)
    for gt, pred in pairs:
        confusion.update(np.asarray(gt), np.asarray(pred))
    return confusion


def scores_of(confusion, seen=None):
    return segmentation_scores(confusion.class_counts(), seen)


def slow_scores(pairs, num_classes, seen=None, ignore=IGNORE):
    """The definitions read out loud, pixel by pixel."""
    hit = [0] * num_classes
    truth = [0] * num_classes
    guess = [0] * num_classes
    for gt, pred in pairs:
        for g, p in zip(np.asarray(gt).ravel().tolist(), np.asarray(pred).ravel().tolist()):
            if g == ignore:
                continue
            truth[g] += 1
            guess[p] += 1
            hit[g] += g == p
    present = [c for c in range(num_classes) if truth[c]]
    union = [c for c in range(num_classes) if truth[c] or guess[c]]
    iou = {c: hit[c] / (truth[c] + guess[c] - hit[c]) for c in union}

    def mean(classes):
        values = [iou[c] for c in classes]
        return sum(values) / len(values) if values else math.nan

    total = sum(truth)
    scores = {
        "miou_union": mean(union),
        "miou_gt": mean(present),
        "fwiou": sum(iou[c] * truth[c] for c in present) / total if total else math.nan,
        "macc": sum(hit[c] / truth[c] for c in present) / len(present) if present else math.nan,
        "pacc": sum(hit) / total if total else math.nan,
    }
    if seen is not None:
        for name, classes in (("miou_union", union), ("miou_gt", present)):
            a = mean([c for c in classes if c in seen])
            b = mean([c for c in classes if c not in seen])
            scores[f"{name}_seen"], scores[f"{name}_unseen"] = a, b
            scores[f"{name}_harmonic"] = 0.0 if a == b == 0 else 2 * a * b / (a + b)
    return scores


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


GT = [[0, 0, 1], [0, 1, 1], [2, 2, IGNORE]]
PRED = [[0, 1, 1], [0, 1, 1], [3, 2, 3]]


def test_three_by_three_by_hand():
    # class 0: 2 of 3; class 1: 3 hits, 3 gt, 4 predicted; class 2: 1 of 2; class 3: predicted once
    # on class 2's pixel (the other time on an ignored pixel), so it is in the union and not in gt
    scores = scores_of(confusion_of([(GT, PRED)], 5), seen={0, 3})
    assert scores["miou_union"] == pytest.approx((2 / 3 + 3 / 4 + 1 / 2 + 0) / 4)
    assert scores["miou_gt"] == pytest.approx((2 / 3 + 3 / 4 + 1 / 2) / 3)
    assert scores["fwiou"] == pytest.approx((3 * 2 / 3 + 3 * 3 / 4 + 2 * 1 / 2) / 8)
    assert scores["macc"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert scores["pacc"] == pytest.approx(6 / 8)
    assert scores["miou_union_seen"] == pytest.approx(1 / 3)
    assert scores["miou_gt_seen"] == pytest.approx(2 / 3)
    assert scores["miou_union_unseen"] == pytest.approx(5 / 8)
    assert scores["miou_union_harmonic"] == pytest.approx(2 / (3 + 8 / 5))


def test_class_scores_by_hand():
    classes = confusion_of([(GT, PRED)], 5).class_counts()
    np.testing.assert_allclose(classes.iou, [2 / 3, 3 / 4, 1 / 2, 0, np.nan])
    np.testing.assert_allclose(classes.accuracy, [2 / 3, 1, 1 / 2, np.nan, np.nan])
    assert classes.gt_pixels.tolist() == [3, 3, 2, 0, 0]
    assert classes.predicted_pixels.tolist() == [2, 4, 1, 1, 0]


def test_a_pixel_without_a_class_is_a_miss():
    scores = scores_of(confusion_of([([[0, 0], [1, IGNORE]], [[0, 2], [1, 2]])], 2))
    assert scores["pacc"] == pytest.approx(2 / 3)
    assert scores["miou_gt"] == pytest.approx((1 / 2 + 1) / 2)


def test_all_ignored_is_nan_and_no_warning():
    scores = scores_of(confusion_of([(np.full((2, 2), IGNORE), np.zeros((2, 2), int))], 3))
    assert all(math.isnan(value) for value in scores.values())


@pytest.mark.parametrize("label", [-1, 3, 200])
def test_a_foreign_label_is_refused_and_adds_nothing(label):
    confusion = Confusion(3, IGNORE)
    with pytest.raises(ValueError, match=f"label {label} is neither"):
        confusion.update(np.array([[0, label]]), np.array([[0, 0]]))
    assert confusion.counts.sum() == 0


def test_shapes_must_agree_not_only_sizes():
    with pytest.raises(ValueError, match="ground truth is"):
        Confusion(3, IGNORE).update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r"not 0\.\.3"):
        Confusion(3, IGNORE).update(np.zeros((1, 1), int), np.array([[4]]))


def test_many_classes_and_uint16_labels_count_in_int64():
    confusion = Confusion(847, 65535)
    gt = np.array([[0, 846, 65535]], dtype=np.uint16)
    confusion.update(gt, np.array([[846, 846, 5]]))
    assert confusion.counts.dtype == np.int64
    assert list(confusion.entries()) == [(0, 846, 1), (846, 846, 1), (847, 5, 1)]
    confusion.add_counts(np.array([846]), np.array([846]), np.array([2**40]))
    assert confusion.counts[846, 846] == 2**40 + 1
    assert confusion.class_counts().gt_pixels[846] == 2**40 + 1


def test_mask_scores_by_hand():
    scores = mask_scores(
        count_masks(np.array([0, 0, 0, 1, 2]), np.array([1, 1, 2, 6, 1]), 4), seen={0}
    )
    assert scores["mask_acc"] == pytest.approx(3 / 5)
    assert scores["mask_acc_top5"] == pytest.approx(4 / 5)
    assert scores["mask_acc_class"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert scores["mask_acc_seen"] == pytest.approx(2 / 3)
    assert scores["mask_acc_unseen"] == pytest.approx(1 / 2)
    assert scores["mask_acc_harmonic"] == pytest.approx(2 / (3 / 2 + 2))
    empty = mask_scores(count_masks(np.zeros(0, int), np.zeros(0, int), 4))
    assert all(math.isnan(value) for value in empty.values())


def test_harmonic_mean_at_the_edges():
    assert harmonic_mean(0, 0) == 0
    assert harmonic_mean(0, 0.5) == 0
    assert math.isnan(harmonic_mean(math.nan, 0.5))


# ---------------------------------------------------------------------------------- properties

K = 6
labels = st.sampled_from([*range(K), IGNORE])
images = st.tuples(
    arrays(np.uint8, (4, 5), elements=labels), arrays(np.uint8, (4, 5), elements=st.integers(0, 5))
)
shards = st.lists(images, max_size=5)


@settings(max_examples=60, deadline=None)
@given(shards, st.sets(st.integers(0, K - 1)))
def test_equals_the_slow_reference(pairs, seen):
    assert_close(scores_of(confusion_of(pairs, K), seen=seen), slow_scores(pairs, K, seen))


@settings(max_examples=30, deadline=None)
@given(shards, shards)
def test_shards_add_up_in_any_order(first, second):
    whole = confusion_of(first + second, K)
    parts = confusion_of(second, K) + confusion_of(first, K)
    assert np.array_equal(whole.counts, parts.counts)
    rebuilt = Confusion(K, IGNORE)
    for gt, pred, pixels in whole.entries():
        rebuilt.add_counts(np.array([gt]), np.array([pred]), np.array([pixels]))
    assert np.array_equal(whole.counts, rebuilt.counts)


@settings(max_examples=30, deadline=None)
@given(shards, st.permutations(range(K)), st.sets(st.integers(0, K - 1)))
def test_renaming_the_classes_changes_nothing(pairs, order, seen):
    table = np.arange(256)
    table[:K] = order
    renamed = [(table[gt], table[pred]) for gt, pred in pairs]
    assert_close(
        scores_of(confusion_of(renamed, K), seen={order[c] for c in seen}),
        scores_of(confusion_of(pairs, K), seen=seen),
    )


@settings(max_examples=30, deadline=None)
@given(images, st.randoms(use_true_random=False))
def test_what_is_predicted_on_ignored_pixels_never_counts(image, random):
    gt, pred = image
    other = pred.copy()
    other[gt == IGNORE] = random.randrange(K)
    assert_close(
        scores_of(confusion_of([(gt, other)], K)),
        scores_of(confusion_of([(gt, pred)], K)),
    )


@settings(max_examples=30, deadline=None)
@given(shards)
def test_a_class_only_predicted_lowers_union_and_not_gt(pairs):
    # one right pixel of class 0, so that both are defined, and K classes more than are in use
    pairs = [*pairs, (np.array([[0, 1]]), np.array([[0, 0]]))]
    spoiled = [*pairs[:-1], (np.array([[0, 1]]), np.array([[0, K]]))]
    before = scores_of(confusion_of(pairs, K + 1))
    after = scores_of(confusion_of(spoiled, K + 1))
    assert after["miou_gt"] >= before["miou_gt"]  # class 0 lost a false positive
    classes = confusion_of(spoiled, K + 1).class_counts()
    union = ((classes.gt_pixels + classes.predicted_pixels) > 0).sum()
    present = (classes.gt_pixels > 0).sum()
    assert after["miou_union"] * union == pytest.approx(after["miou_gt"] * present)
    assert after["miou_union"] < after["miou_gt"]


# ------------------------------------------------------------------------------ recorded vectors

OFFICIAL = "ovseg_GeneralizedSemSegEvaluator"
VERSION_06 = "detectron2_v0.6_SemSegEvaluator"
MAIN = "detectron2_HEAD_SemSegEvaluator"


def recorded(results, name):
    return math.nan if results[name] == "nan" else results[name] / 100


def check(agrees, case, confusion, entry, seen=None):
    scores = scores_of(confusion, seen=seen)
    for evaluator, ours, about in (
        (OFFICIAL, "miou_union", "official evaluator"),
        (VERSION_06, "miou_union", "detectron2 0.6"),
        (MAIN, "miou_gt", "detectron2 main"),
    ):
        results = entry[evaluator]["results"]
        wanted = {ours: "mIoU", "fwiou": "fwIoU", "macc": "mACC", "pacc": "pACC"}
        if seen is not None and evaluator == OFFICIAL:
            wanted |= {
                "miou_union_seen": "mIoU-seen",
                "miou_union_unseen": "mIoU-unseen",
                "miou_union_harmonic": "hIoU-seen",
            }
        if math.isnan(scores["pacc"]):
            assert recorded(results, "fwIoU") == 0 and math.isnan(scores["fwiou"])
            del wanted["fwiou"]  # no pixel counts: undefined here, 0 there
        mine = [scores[name] for name in wanted]
        theirs = [recorded(results, name) for name in wanted.values()]
        agrees(f"evaluation/{case}", f"scores, {about}", mine, theirs, tolerance=1e-12)
    return scores


def test_recorded_evaluations(agrees, reference_data: Path):
    folder = reference_data / "golden" / "evaluation"
    tensors = load_file(folder / "pairs.safetensors")
    results = json.loads((folder / "results.json").read_text())
    k, seen = results["num_classes"], results["evaluation_set"]["seen"]
    each = []
    for index, entry in enumerate(results["per_image"]):
        gt, pred = tensors[f"pair{index}.gt"], tensors[f"pair{index}.pred"]
        assert np.array_equal(tensors[f"pair{index}.logits"].argmax(0), pred)
        each.append(confusion_of([(gt, pred)], k))
        check(agrees, f"image {index}", each[-1], entry)
    total = sum(each[1:], start=each[0])
    matrix = np.array(results["all6_no_set"][OFFICIAL]["confusion_matrix_[pred,gt]"])
    agrees("evaluation/all 6", "confusion matrix", total.counts.T, matrix, tolerance=0)
    scores = check(agrees, "all 6", total, results["all6_no_set"])
    assert scores["miou_union"] == pytest.approx(0.3849258083549657, abs=1e-12)
    assert scores["miou_gt"] == pytest.approx(0.4704648768782914, abs=1e-12)
    check(agrees, "all 6, seen and unseen", total, results["all6_seen_set"], seen=seen)
    recorded_iou = [
        recorded(results["all6_no_set"][OFFICIAL]["results"], f"IoU-class{c}") for c in range(k)
    ]
    classes = total.class_counts()
    present = classes.gt_pixels > 0
    ours, theirs = classes.iou[present], np.array(recorded_iou)[present]
    agrees("evaluation/all 6", "IoU of each class", ours, theirs, tolerance=1e-12)


def test_recorded_irregular_cases(agrees, reference_data: Path):
    folder = reference_data / "golden" / "evaluation"
    tensors = load_file(folder / "dirty.safetensors")
    results = json.loads((folder / "dirty_results.json").read_text())
    seen = json.loads((folder / "results.json").read_text())["evaluation_set"]["seen"]
    refused = compared = 0
    for name, entry in results.items():
        images = [
            (tensors[f"{name}.gt{i}"], tensors[f"{name}.logits{i}"].argmax(0))
            for i in range(2)
            if f"{name}.gt{i}" in tensors
        ]
        if name.startswith(("gt_value", "size_mismatch")):
            # refused with a reason, also where the official evaluator lets the label pass
            with pytest.raises(ValueError, match=r"label|ground truth is"):
                confusion_of(images, 12)
            refused += 1
        elif "more_channels" in name:
            # The official scores are all NaN. Here the first class beyond the benchmark's (12)
            # is "no class" and a miss, others are refused.
            assert entry[OFFICIAL]["results"]["mIoU"] == "nan"
            [(gt, pred)] = images
            assert pred.max() >= 12
            assert scores_of(confusion_of([(gt, np.minimum(pred, 12))], 12))["pacc"] < 1
            with pytest.raises(ValueError, match=r"not 0\.\.12"):
                confusion_of([(gt, np.maximum(pred, 13))], 12)
            refused += 1
        else:
            ignore = 65535 if "65535" in name else IGNORE
            split = seen if name.startswith("seen") else None
            check(agrees, name, confusion_of(images, 12, ignore), entry, seen=split)
            compared += 1
    assert (refused, compared) == (7, 10)
