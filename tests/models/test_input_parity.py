"""From the image file to the network's input, against the official implementation's recordings."""

import ast
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from ovseg.data.images import decode
from ovseg.models.preprocessing import InputSettings, pad_batch, resize_shortest_edge, resized_shape

FOLDER = "input_pipeline"


def test_resized_shapes(agrees, recording):
    recorded = json.loads(recording(f"{FOLDER}/resize_shapes.json").read_text())
    for sides in ("640/2560", "512/2048"):
        short_side, max_side = map(int, sides.split("/"))
        expected = {
            tuple(map(int, key.rpartition("/")[2].split("x"))): shape
            for key, shape in recorded.items()
            if key.startswith(f"{sides}/")
        }
        ours = [resized_shape(*size, short_side, max_side) for size in expected]
        case = f"{FOLDER}/resize to {sides}"
        agrees(case, "shapes", ours, list(expected.values()), tolerance=0)


@pytest.mark.parametrize("number", range(7))
def test_pixels_of_an_image_file(agrees, reference_data: Path, number: int):
    folder = reference_data / "golden" / FOLDER
    tensors = load_file(folder / "mapped.safetensors")
    about = json.loads((folder / "meta.json").read_text())["files"]["mapped.safetensors"]
    case = about["cases"][str(number)]
    source = tensors[f"{number}.source_hwc"]
    if case["mode"] == "RGBA":
        # The official reader drops alpha; ours lays transparent pixels on white. What is opaque
        # is the same, so the recorded case is the one without its alpha.
        assert source[..., 3].min() < 255
        source = source[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(source[..., 0] if case["mode"] == "L" else source).save(buffer, "png")
    sides = case["MIN_SIZE_TEST"], case["MAX_SIZE_TEST"]
    ours = resize_shortest_edge(decode(buffer.getvalue()), *sides)
    name = f"{FOLDER}/{case['mode']} {source.shape[0]} x {source.shape[1]} to {sides[0]}/{sides[1]}"
    expected = tensors[f"{number}.mapped_chw"].transpose(1, 2, 0)
    agrees(name, "pixels", ours, expected, tolerance=0)


def test_padding(agrees, recording):
    recorded = json.loads(recording(f"{FOLDER}/padding.json").read_text())
    settings = InputSettings()
    ours = []
    for key in recorded:
        images = [np.full((*size, 3), 255, np.uint8) for size in ast.literal_eval(key)]
        batch = pad_batch(images, settings.mean, settings.std)
        ours.append(list(batch.shape))
        for image, padded in zip(images, batch):
            height, width = image.shape[:2]
            assert padded[:, :height, :width].all()
            assert not padded[:, height:].any() and not padded[:, :, width:].any()
    agrees(f"{FOLDER}/padding", "shapes", ours, list(recorded.values()), tolerance=0)
