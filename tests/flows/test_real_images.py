"""Real photographs and captions through the whole mining flow, with the compact models."""

import json

import pytest

from bench.reference_images import list_captioned_images
from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.query import failed_checks, run_query


def mine_real(reference_data, root, **overrides):
    from flows.mine import mine

    captions = root / "captions.json"
    listed = list_captioned_images(reference_data / "realdata", captions)
    (mined,) = mine(
        "storybook",
        root=root,
        captions=captions,
        images=reference_data / "realdata",
        overrides={"data.dataset": "coco-sample", **overrides},
    ).values()
    return listed, mined


def test_mining_real_images(prefect_server, reference_data, tmp_path):
    _, mined = mine_real(reference_data, tmp_path, **{"data.limit": 16})
    assert mined["images"].rows == 16
    assert len(mined["images"].shards) >= 8
    assert mined["table"].stats["kept"] > 16
    with open_catalog(tmp_path) as con:
        assert not failed_checks(con)
        nouns = run_query(con, "select noun from kept_pairs").to_pydict()["noun"]
    assert {"man", "person", "woman", "table", "street", "cat", "room"} & set(nouns)


def test_one_bad_image_is_a_row_and_many_stop_the_run(prefect_server, reference_data, tmp_path):
    from flows.mine import mine
    from ovseg.errors import OvsegError

    list_captioned_images(reference_data / "realdata", tmp_path / "all.json")
    data = json.loads((tmp_path / "all.json").read_text())
    data["images"] = data["images"][:24]
    data["images"][3]["file_name"] = "missing.jpg"
    data["annotations"] = [
        note
        for note in data["annotations"]
        if note["image_id"] in {image["id"] for image in data["images"]}
    ]
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps(data))

    def run():
        (mined,) = mine(
            "storybook",
            root=tmp_path / "run",
            captions=captions,
            images=reference_data / "realdata",
        ).values()
        return mined

    mined = run()
    dropped = [row for row in mined["images"].table().to_pylist() if not row["kept"]]
    assert [row["drop_reason"] for row in dropped] == ["missing_file"]
    for image in data["images"][5:12]:
        image["file_name"] = f"gone/{image['file_name']}"
    captions.write_text(json.dumps(data))
    with pytest.raises(OvsegError, match="max_bad_fraction"):
        run()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mining_every_captioned_image(prefect_server, reference_data, tmp_path):
    listed, mined = mine_real(reference_data, tmp_path)
    assert listed == mined["images"].rows == 364
    assert mined["table"].stats["kept_nouns"] > 500
