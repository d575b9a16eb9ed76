"""Captions and images of a bucket, in shards, give the same pairs as those of a folder."""

import io
import json
import tarfile

from ovseg.config.request import resolve
from ovseg.data.listing import LIST_IMAGES
from ovseg.data.screening import SCREEN_IMAGES
from ovseg.mining.nouns.embeddings import TEXTS
from ovseg.mining.nouns.stage import NOUNS
from ovseg.mining.pairs.stage import PAIRS
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.stages.run import run_stage
from ovseg.storybook.world import write_world

SCENES = 4
OF_THE_PAIR = ("image_sha256", "noun", "head", "mask_counts", "clip_similarity", "kept")


def pairs(captions, images, root) -> list[tuple]:
    given = {"captions": captions, "images": images, "overrides": {"data.min_shards": 1}}
    config = resolve("storybook", root=root, **given)
    listed = run_stage(LIST_IMAGES, config.images, {}, root)
    screened = run_stage(SCREEN_IMAGES, config.mining.screening, {"images_listed": listed}, root)
    nouns = run_stage(NOUNS, config.nouns, {"images": screened}, root)
    proposals = run_stage(PROPOSALS, config.proposals, {"images": screened}, root)
    texts = run_stage(TEXTS, config.texts, {"nouns": nouns}, root)
    parts = {"images": screened, "nouns": nouns, "proposals": proposals, "texts": texts}
    rows = run_stage(PAIRS, config.pairing, parts, root).table().to_pylist()
    return sorted(tuple(row[column] for column in OF_THE_PAIR) for row in rows)


def test_a_bucket_is_mined_as_a_folder_is(bucket, tmp_path):
    world = tmp_path / "world"
    write_world(world, part="mining", n=SCENES)
    document = json.loads((world / "annotations" / "captions.json").read_text())
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for image in document["images"]:
            own = [a["caption"] for a in document["annotations"] if a["image_id"] == image["id"]]
            content = (world / "images" / image["file_name"]).read_bytes()
            stem = image["file_name"].removesuffix(".png")
            texts = json.dumps({"captions": own}).encode()
            for name, member in ((f"{stem}.png", content), (f"{stem}.json", texts)):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    bucket.pipe("photos/mined/00000.tar", shard.getvalue())
    of_folder = pairs(world / "annotations" / "captions.json", world / "images", tmp_path / "a")
    assert len({pair[0] for pair in of_folder}) == SCENES
    assert pairs("s3://photos/mined", "s3://photos/mined", tmp_path / "b") == of_folder
