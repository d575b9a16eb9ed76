"""Ways to spoil the small sources of published benchmarks."""

import json
from collections.abc import Callable
from pathlib import Path

Spoil = Callable[[Path], object]
ADE = "ADEChallengeData2016"
IMAGE = f"{ADE}/images/validation/ADE_val_00000001.jpg"
LABEL = f"{ADE}/annotations/validation/ADE_val_00000001.png"
FULL = "ADE20K_2021_17_01/images/ADE/validation/home/ADE_val_00000002"
JSON = "coco/annotations/panoptic_val2017.json"
CONTEXT = "VOCdevkit/VOC2010"
VOC = "VOCdevkit/VOC2012"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def altered(change: Callable[[dict], object]) -> Spoil:
    def spoil(source: Path) -> None:
        data = json.loads((source / JSON).read_text())
        change(data)
        (source / JSON).write_text(json.dumps(data))

    return spoil
