"""Scoring of one image: confusion, boundaries, objects; and label maps of large vocabularies.

    python -m bench scoring

The straightforward ways are a dense matrix for each image, minimum and maximum filters, one
labelling for each class; and maps of all classes, as many at once as fit `SCORE_BUDGET`. Images
have 480 x 640 pixels with 20 classes, label maps 100 soft masks. A straight
label map of 27,000 classes takes minutes, so the two are compared on 60 x 80 pixels.
"""

import ctypes
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from bench.comparing import Figure, compare, figure
from bench.timing import seconds
from ovseg.evaluation.boundary import boundary_counts, boundary_width
from ovseg.evaluation.counts import confusion_rows
from ovseg.evaluation.metrics import Confusion
from ovseg.evaluation.objects import sized_objects
from ovseg.models.ensemble import (
    SCORE_BUDGET,
    aggregate,
    best_of_parts,
    label_map,
    resized_maps,
)

SIZE = (480, 640)
IGNORE = 65535


def main() -> list[Figure]:
    """Print milliseconds per image, and the memory of label maps."""
    torch.set_num_threads(1)
    figures = []
    for classes in (150, 847):
        gt, pred = labelled_image(classes)
        total, dense_total = Confusion(classes, IGNORE), np.zeros((classes + 1,) * 2, np.int64)
        figures += [
            compare(
                f"confusion, {classes} classes",
                lambda k=classes, g=gt, p=pred, t=dense_total: dense_rows(g, p, k, t),
                lambda k=classes, g=gt, p=pred, t=total: rows(g, p, k, t),
            ),
            compare(
                f"boundaries, {classes} classes",
                lambda k=classes, g=gt, p=pred: filtered_boundaries(g, p, k),
                lambda k=classes, g=gt, p=pred: boundary_counts(g, p, k, IGNORE),
            ),
            compare(
                f"objects, {classes} classes",
                lambda k=classes, g=gt, p=pred: labelled_objects(g, k),
                lambda k=classes, g=gt, p=pred: [*sized_objects(g, p, k, IGNORE)],
            ),
        ]
        assert np.array_equal(total.counts, dense_total)
    for classes, size in ((150, SIZE), (847, SIZE), (27_000, (60, 80))):
        p_qk, masks_qhw = proposals(classes, size)
        assert torch.equal(label_map(p_qk, masks_qhw, size), all_maps(p_qk, masks_qhw, size))
        what = f"label map of {size[0]} x {size[1]}, {classes} classes"
        figures.append(
            compare(
                what,
                lambda p=p_qk, m=masks_qhw, s=size: all_maps(p, m, s),
                lambda p=p_qk, m=masks_qhw, s=size: label_map(p, m, s),
                runs=5 if classes < 500 else 1,
            )
        )
        before, after = (peak(way, p_qk, masks_qhw, size) for way in (all_maps, label_map))
        print(f"    memory {before:6.0f} -> {after:6.0f} MiB")
        figures.append(figure(f"memory of {what}", before, after, unit="MiB", kind="byte-equal"))
    p_qk, masks_qhw = proposals(27_000, SIZE)
    took = seconds(lambda: label_map(p_qk, masks_qhw, SIZE), runs=1)
    memory = peak(label_map, p_qk, masks_qhw, SIZE)
    print(f"  label map of 480 x 640, 27000 classes: {1000 * took:8.2f} ms, {memory:.0f} MiB")
    return figures


def labelled_image(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw ground truth with some ignored rows, and a prediction with other outlines."""
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (
        F.interpolate(torch.randn(1, 20, *grid, generator=generator), size=SIZE, mode="bicubic")[0]
        for grid in ((9, 12), (60, 80))
    )
    names = torch.randperm(classes, generator=generator)[:20].numpy()
    gt = names[coarse.argmax(0).numpy()].astype(np.uint16)
    gt[:5] = IGNORE
    return gt, names[(coarse + 0.15 * fine).argmax(0).numpy()].astype(np.int32)


def proposals(classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Draw 100 smooth soft masks, and class scores as two softmaxes of cosines join to."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(100, 1, 8, 10, generator=generator) * 4 - 3
    masks_qhw = F.interpolate(logits, size=size, mode="bicubic")[:, 0].sigmoid()
    texts = F.normalize(torch.randn(classes, 64, generator=generator), dim=1)
    named = texts[torch.randint(classes, (100,), generator=generator)]
    p_qk = torch.ones(100, classes)
    for weight in (0.3, 0.7):
        noise = F.normalize(torch.randn(100, 64, generator=generator), dim=1)
        features = F.normalize(0.35 * named + noise, dim=1)
        p_qk *= (30 * features @ texts.T).softmax(1) ** weight
    return p_qk, masks_qhw


def peak(
    way: Callable[[Tensor, Tensor, tuple[int, int]], Tensor],
    p_qk: Tensor,
    masks_qhw: Tensor,
    size: tuple[int, int],
) -> float:
    """Return by how many MiB a process grows for one label map, at most; Linux only."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def measured() -> None:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is only kept is to count
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = kibibytes("VmRSS")
        way(p_qk, masks_qhw, size)
        theirs.send((kibibytes("VmHWM") - before) / 1024)

    process = context.Process(target=measured)
    process.start()
    theirs.close()  # so that the death of the process is an EOFError here, not a wait
    grown: float = ours.recv()
    process.join()
    return grown


def kibibytes(name: str) -> int:
    """Return a figure of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


# --------------------------------------------------------------------------------------
# The project's way


def rows(gt: np.ndarray, pred: np.ndarray, classes: int, total: Confusion) -> list[dict]:
    """Count an image, add it to all, return its rows."""
    one = Confusion(classes, IGNORE)
    one.update(gt, pred)
    total += one
    return [*confusion_rows(1, one)]


# --------------------------------------------------------------------------------------
# The straightforward way


def dense_rows(gt: np.ndarray, pred: np.ndarray, classes: int, total: np.ndarray) -> list[dict]:
    """Count all pairs of classes of an image, add them to all, return those that occur."""
    side = classes + 1
    truth = np.where(gt == IGNORE, classes, gt.astype(np.int64))
    counts = np.bincount((side * truth + pred).ravel(), minlength=side**2).reshape(side, side)
    total += counts
    return [
        {"image_id": 1, "gt_class": g, "predicted_class": p, "pixels": int(counts[g, p])}
        for g, p in np.argwhere(counts).tolist()
    ]


def filtered_boundaries(gt: np.ndarray, pred: np.ndarray, classes: int) -> list[np.ndarray]:
    """Mark pixels whose window holds two labels by its minimum and maximum."""
    ignored, width = gt == IGNORE, boundary_width(*gt.shape)
    maps = [np.where(ignored, classes + 1, labels.astype(np.int32)) for labels in (gt, pred)]
    bands = []
    for labels in maps:
        window = {"size": 2 * width + 1, "mode": "constant", "cval": -1}
        lowest = ndimage.minimum_filter(labels, **window)
        bands.append((lowest != labels) | (ndimage.maximum_filter(labels, **window) != labels))
    both = bands[0] & bands[1] & (maps[0] == maps[1])
    selected = [(maps[0], both), (maps[0], bands[0]), (maps[1], bands[1])]
    return [np.bincount(labels[band], minlength=classes)[:classes] for labels, band in selected]


def labelled_objects(gt: np.ndarray, classes: int) -> list[np.ndarray]:
    """Find the connected parts of each class within its box, without the counts by size."""
    truth = np.where(gt == IGNORE, classes, gt).astype(np.int32)
    areas = []
    for class_id, box in enumerate(ndimage.find_objects(truth + 1, max_label=classes)):
        if box is not None:
            parts, _ = ndimage.label(truth[box] == class_id, structure=np.ones((3, 3)))
            areas.append(np.bincount(parts.ravel()))
    return areas


def all_maps(p_qk: Tensor, masks_qhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute the maps of all classes, as many at once as fit the budget."""
    parts = torch.split(p_qk, max(1, SCORE_BUDGET // (size[0] * size[1])), dim=1)
    return best_of_parts(resized_maps(aggregate(part, masks_qhw), size) for part in parts)[1]


if __name__ == "__main__":
    main()
