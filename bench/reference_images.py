"""Every COCO image of the reference data that has captions, listed as one captions file.

    python -m bench.reference_images runs/real/captions.json
    ovseg mine --root runs/real --dataset coco-sample --captions runs/real/captions.json \
        --images "$OVSEG_REFERENCE_DATA/realdata"

The images stay where they are; only their names and captions are written.
"""

import json
import os
import sys
from pathlib import Path

CAPTIONS = (
    "coco_captions_val2017/annotations/captions_val2017.json",
    "coco_mini/annotations/captions_train2017.json",
)


def list_captioned_images(realdata: Path, out: Path) -> int:
    """Write a COCO captions JSON of the images that lie under `realdata` and have captions.

    Args:
        realdata: folder of image folders named by 12-digit COCO ids, with the captions files.
        out: JSON to write; its file names are relative to `realdata`.

    Returns:
        The number of images listed.
    """
    images, annotations = {}, {}
    for name in CAPTIONS:
        data = json.loads((realdata / name).read_text(encoding="utf-8"))
        images.update({image["id"]: image for image in data["images"]})
        annotations.update({note["id"]: note for note in data["annotations"]})
    captioned = {note["image_id"] for note in annotations.values()}
    found: dict[int, str] = {}
    for path in sorted(realdata.rglob("*.jpg")):
        if path.stem.isdigit() and len(path.stem) == 12 and int(path.stem) in captioned:
            found.setdefault(int(path.stem), path.relative_to(realdata).as_posix())
    listed = {
        "images": [{**images[i], "file_name": name} for i, name in sorted(found.items())],
        "annotations": [note for note in annotations.values() if note["image_id"] in found],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(listed), encoding="utf-8")
    return len(found)


if __name__ == "__main__":
    folder = os.environ.get("OVSEG_REFERENCE_DATA")
    if folder is None or len(sys.argv) != 2:
        sys.exit("usage: OVSEG_REFERENCE_DATA=DIR python -m bench.reference_images OUT.json")
    print(list_captioned_images(Path(folder) / "realdata", Path(sys.argv[1])), "images")
