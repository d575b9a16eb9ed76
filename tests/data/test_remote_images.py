"""Captions and images in S3, on a moto server: through listing, rereading and cutting regions."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ovseg.config.data import ImagesConfig
from ovseg.config.request import resolve
from ovseg.data import masks
from ovseg.data.captions.formats import read_captions
from ovseg.data.image_reader import ListedImages, decode_ahead
from ovseg.data.images import ImageError, read_image
from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError
from ovseg.files.locations import located
from ovseg.stages.run import run_stage, stage_folder


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture(scope="module")
def source(bucket) -> ImagesConfig:
    names = ["a.png", "sub/b.png", "none.png", "empty.png", "page.png", "0.tar#c.png"]
    for seed, name in enumerate(names[:2]):
        bucket.pipe(f"photos/set/{name}", png(seed))
    bucket.pipe("photos/set/empty.png", b"")
    bucket.pipe("photos/set/page.png", b"<html>")
    bucket.pipe("photos/set/0.tar", tar({"x.txt": b"x", "c.png": png(2)}))
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    captions = [{"id": n, "image_id": n, "caption": f"dog {n}"} for n in range(len(names))]
    text = json.dumps({"images": images, "annotations": captions})
    bucket.pipe("photos/captions.json", text.encode())
    return ImagesConfig(
        captions="s3://photos/captions.json", image_root="s3://photos/set", max_bad_fraction=1
    )


def test_images_in_a_bucket_are_listed_and_read_again(source, tmp_path):
    rows = run_stage(LIST_IMAGES, source, {}, tmp_path).table().to_pylist()
    assert [row["drop_reason"] for row in rows] == [
        None,
        None,
        "missing_file",
        "zero_bytes",
        "not_an_image",
        None,
    ]
    kept = [row for row in rows if row["kept"]]
    for workers in (0, 1):
        reader = ListedImages(source.image_root, setting="x", workers=workers)
        for seed, (_, image) in enumerate(reader.read(kept)):
            assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(png(seed)))))
        assert reader.stats() == {"n": 3, "bad": 0, "first_bad": None}


def test_a_url_for_a_name_is_a_row_behind_a_url_too(bucket, tmp_path):
    names = ["a.png", "http://host/a.png", "s3://photos/set/a.png", "data:image/png;base64,aGk="]
    bucket.pipe("photos/set/a.png", png(0))
    lines = [json.dumps({"image": name, "text": "a dog"}) for name in names]
    bucket.pipe("photos/urls.jsonl", "\n".join(lines).encode())
    config = ImagesConfig(
        captions="s3://photos/urls.jsonl", image_root="s3://photos/set", max_bad_fraction=1
    )
    rows = run_stage(LIST_IMAGES, config, {}, tmp_path).table().to_pylist()
    reasons = {row["image_path"]: row["drop_reason"] for row in rows}
    assert reasons == dict(zip(names, [None, *["path_outside_root"] * 3], strict=True))


def test_regions_are_cut_from_images_in_a_bucket(source, tmp_path):
    from ovseg.training.clip.mapped import MappedRegions
    from ovseg.training.clip.pairs import ImagePairs
    from ovseg.training.clip.regions import RegionCut

    rows = run_stage(LIST_IMAGES, source, {}, tmp_path).table().to_pylist()
    kept = [row for row in rows if row["kept"]]
    whole = masks.encode(np.ones((1, 20, 30), dtype=bool))[0]
    pairs = pa.table(
        {
            "image_path": [row["image_path"] for row in kept],
            "image_sha256": [row["image_sha256"] for row in kept],
            "mask_size": [[20, 30]] * len(kept),
            "mask_counts": [whole] * len(kept),
        }
    )
    cut = RegionCut(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    regions = MappedRegions(ImagePairs(pairs, source.image_root), cut, folder=tmp_path / "regions")
    assert regions.unusable == {} and len(regions.usable) == 3
    assert bool(regions.regions([0, 2]).masks.all())


def test_the_digest_notices_what_changes_in_a_bucket(bucket, source, tmp_path):
    before = stage_folder(LIST_IMAGES, source, {}, tmp_path)[0]
    assert stage_folder(LIST_IMAGES, source, {}, tmp_path)[0] == before
    bucket.pipe("photos/set/empty.png", b"more")
    assert stage_folder(LIST_IMAGES, source, {}, tmp_path)[0] != before
    bucket.pipe("photos/set/empty.png", b"")
    assert stage_folder(LIST_IMAGES, source, {}, tmp_path)[0] == before


def test_shards_in_a_bucket(bucket):
    for number in range(2):
        members = {"a.png": png(number), "a.txt": f"dog {number}".encode()}
        bucket.pipe(f"photos/shards/{number}.tar", tar(members))
    root = located("s3://photos/shards")
    found = read_captions(root)
    assert {image.file_name for image in found.images} == {"0.tar#a.png", "1.tar#a.png"}
    assert [image.captions[0][1] for image in found.images] == ["dog 0", "dog 1"]
    wanted = [(root / image.file_name, None) for image in found.images]
    for seed, image in enumerate(decode_ahead(wanted, workers=1)):
        assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(png(seed)))))
    with pytest.raises(ImageError, match="missing_file"):
        read_image(root / "0.tar#b.png")


@pytest.mark.parametrize("url", ["s3://photos/none.json", "s3://no-such-bucket/captions.json"])
def test_what_is_not_there_is_one_line(bucket, url):
    with pytest.raises(OvsegError) as error:
        read_captions(located(url))
    assert url in str(error.value) and "\n" not in str(error.value)


def test_without_credentials_it_is_said_what_to_look_at(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(bucket).clear_instance_cache()
    with pytest.raises(OvsegError, match=r"cannot be reached: .*credentials.*KEY_ID") as error:
        resolve("storybook", captions="s3://photos/captions.json", images="s3://photos/set")
    assert "\n" not in str(error.value)
    type(bucket).clear_instance_cache()


def test_a_folder_that_is_not_there_is_one_line(bucket):
    with pytest.raises(OvsegError, match=r"s3://photos/nowhere is not a folder.*set x to") as error:
        ListedImages(located("s3://photos/nowhere"), setting="x")
    assert "\n" not in str(error.value)
