"""Masks to run-length encodings and back: pycocotools on transposed copies against the project's.

    python -m bench rle

100 masks of 480 x 640 with outlines as detailed as those of COCO's panoptic labels (about 1,500
characters per mask), the same with smooth outlines, and noise, the worst case. On a GPU also masks
that are there already, which pycocotools receives as arrays.
"""

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor
from torch.nn import functional as F

from bench.comparing import Figure, compare
from ovseg.data import mask_tensors, masks

SIZE = (480, 640)
NUMBER = 100


def main() -> list[Figure]:
    """Print the milliseconds for 100 masks."""
    torch.set_num_threads(1)
    figures = []
    kinds = {"detailed masks": drawn(0.02), "smooth masks": drawn(0.0), "noise": noise()}
    for name, masks_qhw in kinds.items():
        counts = pycocotools_encode(masks_qhw)
        assert masks.encode(masks_qhw) == counts
        assert np.array_equal(masks.decode(counts, SIZE), masks_qhw)
        length = sum(map(len, counts)) / len(counts)
        print(f"  {name}: {len(masks_qhw)} of {SIZE[0]} x {SIZE[1]}, {length:.0f} characters each")
        figures += [
            compare(
                f"encode {name}",
                lambda some=masks_qhw: pycocotools_encode(some),
                lambda some=masks_qhw: masks.encode(some),
            ),
            compare(
                f"decode {name}",
                lambda some=counts: pycocotools_decode(some),
                lambda some=counts: masks.decode(some, SIZE),
            ),
            compare(
                f"areas and boxes of {name}",
                lambda some=counts: pycocotools_extents(some),
                lambda some=counts: masks.areas_and_boxes(some, SIZE),
            ),
        ]
        if torch.cuda.is_available():
            figures += on_gpu(name, torch.from_numpy(masks_qhw).cuda(), counts)
    return figures


def on_gpu(name: str, masks_qhw: Tensor, counts: list[bytes]) -> list[Figure]:
    """Compare copies of the masks with what crosses to the host and back now."""
    assert mask_tensors.encode(masks_qhw) == counts
    assert torch.equal(mask_tensors.decode(counts, SIZE, "cuda"), masks_qhw)
    return [
        compare(
            f"encode {name} on the GPU",
            lambda: pycocotools_encode(masks_qhw.cpu().numpy()),
            lambda: mask_tensors.encode(masks_qhw),
        ),
        compare(
            f"decode {name} onto the GPU",
            lambda: torch.from_numpy(pycocotools_decode(counts)).cuda(),
            lambda: mask_tensors.decode(counts, SIZE, "cuda"),
        ),
    ]


def drawn(detail: float) -> np.ndarray:
    """Draw masks that cover 2 to 50 % of an image: smooth fields, cut at a height."""
    generator = torch.Generator().manual_seed(0)

    def field(height: int, width: int) -> Tensor:
        coarse = torch.randn(NUMBER, 1, height, width, generator=generator)
        return F.interpolate(coarse, size=SIZE, mode="bicubic", align_corners=False)[:, 0]

    heights = field(3, 4) + detail * field(120, 160)
    shares = torch.linspace(0.5, 0.98, NUMBER)
    levels = [torch.quantile(one, float(share)) for one, share in zip(heights, shares)]
    masks_qhw: np.ndarray = (heights > torch.stack(levels)[:, None, None]).numpy()
    return masks_qhw


def noise() -> np.ndarray:
    """Draw masks that hold every other pixel at random; a fifth as many, they take long."""
    return np.random.default_rng(0).random((NUMBER // 5, *SIZE)) < 0.5


# --------------------------------------------------------------------------------------
# The straightforward way


def pycocotools_encode(masks_qhw: np.ndarray) -> list[bytes]:
    """Copy the masks column by column, then encode them."""
    columns = np.ascontiguousarray(masks_qhw.transpose(0, 2, 1), dtype=np.uint8)
    return [rle["counts"] for rle in coco.encode(columns.transpose(2, 1, 0))]


def pycocotools_decode(counts: list[bytes]) -> np.ndarray:
    """Check and decode the masks, then copy them row by row."""
    rles = [{"size": [*SIZE], "counts": one} for one in masks.check(counts, SIZE)]
    decoded: np.ndarray = np.ascontiguousarray(coco.decode(rles).transpose(2, 0, 1))
    return decoded.view(np.bool_)


def pycocotools_extents(counts: list[bytes]) -> list[np.ndarray]:
    """Check the masks for their areas, check them again for their boxes."""
    extents = []
    for measure in (coco.area, coco.toBbox):
        strings = masks.check(counts, SIZE)
        extents.append(measure([{"size": [*SIZE], "counts": one} for one in strings]))
    return extents


if __name__ == "__main__":
    main()
