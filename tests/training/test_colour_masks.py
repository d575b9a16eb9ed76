"""The mask a region brings along, against the mask the official training reads off its colours.

    python tests/training/test_colour_masks.py FOLDER     (of coco128_panoptic: prints the shares)

The published training crops are JPEG files without masks. The official mask prompt tuning counts a
pixel as background where it has exactly the colour that JPEG makes of the fill. Here the mask of
the pair table is cropped along with the pixels. What that changes is measured here.
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from ovseg.models.clip.prompted_tower import patch_masks
from ovseg.models.regions.crops import region_crops
from ovseg.storybook.scenes import draw_scene
from ovseg.training.clip.crops import crop_exact, crop_masks, draw_crop_boxes, seeded_generator

FILL = np.array((124, 116, 103), np.uint8)  # what JPEG of quality 75 makes of 255 * CLIP's mean
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SIZE, PATCH = 224, 14  # of ViT-L/14
PILLOW = int(PIL.__version__.partition(".")[0])

Regions = Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]
"""Images `(H, W, 3)` with their masks `(Q, H, W)`."""


def colour_mask(image_hwc: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The official rule: background is what has exactly the fill's colour."""
    return (image_hwc != FILL).any(-1)


def jpeg(image_hwc: NDArray[np.uint8], quality: int = 75) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image_hwc).save(buffer, "jpeg", quality=quality)
    return np.asarray(Image.open(buffer))


def shares(regions: Regions) -> dict[str, float]:
    """How often the two masks of a stored and cropped region differ.

    Returns:
        Shares of pixels and of patches: `added` are foreground by colour alone, `lost` by the true
        mask alone; `background` is the true share of background patches.
    """
    found = {"pixels added": [], "pixels lost": [], "added": [], "lost": [], "background": []}
    for number, (image, masks) in enumerate(regions):
        cut = region_crops(image, masks, size=SIZE, mean=MEAN, std=STD, normalize=False)
        boxes = draw_crop_boxes(
            len(cut.boxes),
            size=SIZE,
            scale=(0.9, 1.0),
            generator=seeded_generator("colour masks", number),
        )
        true = crop_masks(cut.masks, boxes)
        stored = cut.pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        by_colour = torch.tensor(
            np.stack(
                [
                    colour_mask(crop_exact(np.ascontiguousarray(jpeg(each)), tuple(box), SIZE))
                    for each, box in zip(stored, boxes.tolist())
                ]
            )
        )
        patches, by_colour_patches = (patch_masks(each, PATCH).bool() for each in (true, by_colour))
        found["pixels added"].append((by_colour & ~true).float().mean((1, 2)))
        found["pixels lost"].append((true & ~by_colour).float().mean((1, 2)))
        found["added"].append((by_colour_patches & ~patches).float().mean(1))
        found["lost"].append((patches & ~by_colour_patches).float().mean(1))
        found["background"].append((~patches).float().mean(1))
    means = {name: float(torch.cat(values).mean()) for name, values in found.items()}
    return {"regions": sum(map(len, found["added"])), **means}


def storybook(count: int) -> Regions:
    for seed in range(count):
        scene = draw_scene(seed)
        yield scene.image, np.stack([segment.mask for segment in scene.segments])


def photographs(folder: Path) -> Regions:
    """Photographs of COCO with their panoptic segments."""
    annotations = sorted((folder / "panoptic_segmentation").rglob("*.png"))
    images = {path.stem: path for path in (folder / "images").rglob("*.jpg")}
    for path in annotations:
        if path.stem in images:
            rgb = np.asarray(Image.open(path).convert("RGB")).astype(np.int64)
            ids = rgb @ np.array([1, 256, 65536])
            masks = np.stack([ids == each for each in np.unique(ids) if each])
            yield np.array(Image.open(images[path.stem]).convert("RGB")), masks


def test_jpeg_makes_the_colour_of_the_official_training_of_the_fill():
    fill = np.full((224, 224, 3), np.round(255 * np.array(MEAN)), np.uint8)
    assert (jpeg(fill) == FILL).all()
    assert not colour_mask(jpeg(fill)).any() and colour_mask(fill).all()


def test_the_rule_of_the_official_training(agrees, reference_data: Path):
    folder = reference_data / "golden/clip_finetune_loss"
    golden = load_file(folder / "transforms.safetensors")
    meta = json.loads((folder / "meta.json").read_text())["files"]["transforms.safetensors"]
    size, differ = meta["image_size"], []
    for name, crop in meta["crops"].items():
        image = golden[f"{name.partition('.')[0]}.image_u8_hwc"].numpy()
        box = top, left, height, width = tuple(crop["i_top,j_left,h,w"])
        recorded = golden[f"{name}.mask"].bool().numpy()
        if PILLOW >= 13 or (height > size) == (width > size):  # see test_crops
            ours = colour_mask(crop_exact(image, box, size))
            case = f"clip_finetune_loss/transforms, {name}"
            agrees(case, "mask by colour", ours, recorded, tolerance=0)
        true = Image.fromarray(colour_mask(image[top : top + height, left : left + width]))
        true = np.asarray(true.resize((size, size), Image.Resampling.NEAREST))
        assert not (true & ~recorded).sum() > 0.01 * true.size, "colour loses almost nothing"
        differ.append((recorded & ~true).mean())
    # the bicubic kernel blends the fill with its neighbours: a rim of one or two pixels, or of
    # many where a tiny image is enlarged
    assert 0.02 < np.median(differ) < 0.06
    whole = golden["wide_90x130.image_u8_hwc"].numpy()
    expected = golden["maskget.wide_90x130.mask"].bool()
    case = "clip_finetune_loss/transforms, wide_90x130"
    agrees(case, "mask by colour, whole", colour_mask(whole), expected, tolerance=0)


def test_colour_adds_a_rim_and_loses_next_to_nothing():
    found = shares(storybook(8))
    assert found["background"] > 0.2
    assert found["lost"] < 1e-3 and 0.05 < found["added"] < 0.2
    assert found["pixels lost"] < 1e-3 and 0.05 < found["pixels added"] < 0.3


def test_photographs(reference_data: Path):
    folder = reference_data / "realdata" / "coco128_panoptic"
    few = (each for each, _ in zip(photographs(folder), range(6)))
    found = shares(few)
    assert found["lost"] < 1e-3 and 0.05 < found["added"] < 0.2


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print("photographs", shares(photographs(Path(sys.argv[1]))))
    print("storybook", shares(storybook(40)))
