"""Captions files: what is read, what is left out and counted, what stops the run."""

import json
from collections import Counter
from pathlib import Path

import pytest
from caption_files import without_ids
from hypothesis import given
from hypothesis import strategies as st

from ovseg.data.captions import captioned_image
from ovseg.data.captions.captioned_image import CaptionedImage, identified, inside
from ovseg.data.captions.formats import read_captions
from ovseg.errors import OvsegError


def write(path: Path, images: list, annotations: list) -> Path:
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_images_and_captions_are_sorted_by_id(tmp_path: Path):
    images = [{"id": 7, "file_name": "b.jpg"}, {"id": -2, "file_name": "a.jpg"}]
    captions = [
        {"id": 5, "image_id": 7, "caption": "second"},
        {"id": 3, "image_id": 7, "caption": " first, verbatim \n"},
    ]
    found = read_captions(write(tmp_path / "c.json", images, captions))
    assert found.images == (
        CaptionedImage(-2, "a.jpg", ()),
        CaptionedImage(7, "b.jpg", ((3, " first, verbatim \n"), (5, "second"))),
    )
    assert found.left_out == {}


def test_what_cannot_be_used_is_counted(tmp_path: Path):
    images = [
        {"id": 1, "file_name": "a.jpg"},
        {"id": 1, "file_name": "other.jpg"},
        {"id": "2", "file_name": "b.jpg"},
        {"id": True, "file_name": "b.jpg"},
        {"id": 2**63, "file_name": "b.jpg"},
        {"id": 3},
        {"id": 4, "file_name": "\udcff.jpg"},
        "no entry",
    ]
    captions = [
        {"id": 1, "image_id": 1, "caption": "kept"},
        {"id": 1, "image_id": 1, "caption": "same id"},
        {"id": 2, "image_id": 99, "caption": "of no image"},
        {"id": 3, "image_id": 1, "caption": None},
        {"id": 4, "image_id": 1, "caption": " \t"},
        {"id": 5, "image_id": 1, "caption": 17},
        {"id": 6, "image_id": 1},
        {"id": 7, "image_id": 1, "caption": "a \ud83d alone"},
        {"id": 8, "image_id": 1, "caption": "a \U0001f600 whole"},
        {"image_id": 1, "caption": "without id"},
        None,
    ]
    found = read_captions(write(tmp_path / "c.json", images, captions))
    assert found.images == (
        CaptionedImage(1, "a.jpg", ((1, "kept"), (8, "a \U0001f600 whole"))),
        CaptionedImage(3, "", ()),
        CaptionedImage(4, "", ()),
    )
    assert found.left_out == {
        "caption_without_image": 1,
        "duplicate_caption_id": 1,
        "duplicate_image_id": 1,
        "no_id": 6,
        "no_text": 4,
        "undecodable_text": 1,
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"images": [{"id": 1}], "annot', "not valid JSON .*fetch it again"),
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00\x01", "text in UTF-16: save it as UTF-8"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b"[]", "is a list, not a COCO captions file: write .* JSON lines"),
        (b'{"images": []}', "the lists 'images' and 'annotations' are missing"),
        (b'{"images": {}, "annotations": []}', "the lists 'images' and 'annotations' are missing"),
    ],
)
def test_a_broken_file_stops_with_its_name(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "captions.json"
    path.write_bytes(content)
    with pytest.raises(OvsegError, match=words) as error:
        read_captions(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_stops_with_its_name(tmp_path: Path):
    with pytest.raises(OvsegError, match=r"nowhere\.json.*data\.captions"):
        read_captions(tmp_path / "nowhere.json")
    with pytest.raises(OvsegError, match="cannot be read"):
        read_captions(tmp_path, "coco")


def test_an_edited_file_is_read_again(tmp_path: Path):
    path = write(tmp_path / "c.json", [{"id": 1, "file_name": "a"}], [])
    first = read_captions(path)
    assert read_captions(path) is first
    write(path, [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}], [])
    assert len(read_captions(path).images) == 2
    assert read_captions(path).sha256 != first.sha256


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(OvsegError, match=r"data\.captions_format: .*'nonsense'.* coco"):
        read_captions(write(tmp_path / "c.json", [], []), "nonsense")


def test_ids_follow_from_names_and_texts():
    rows = [("b.jpg", "one"), ("a.jpg", "two"), ("b.jpg", "three")]
    spoilt = [(None, "x"), ("", "x"), ("c\udcff.jpg", "x"), ("d.jpg", " "), ("a.jpg", "a \ud83d")]
    left_out: Counter[str] = Counter()
    assert list(identified([*rows, *spoilt], left_out)) == [
        without_ids("b.jpg", "one", "three"),
        without_ids("a.jpg", "two"),
        without_ids("d.jpg"),
    ]
    assert left_out == {"no_file_name": 3, "no_text": 1, "undecodable_text": 1}


ROWS = st.lists(
    st.tuples(st.sampled_from(["a.jpg", "b/c.jpg", "ä.png"]), st.sampled_from(["x", "y", "z z"]))
)


@given(rows=ROWS, others=ROWS, random=st.randoms())
def test_rows_may_come_go_and_change_places(rows, others, random):
    before = {image.image_id: image for image in identified(rows, Counter())}
    shuffled = rows.copy()
    random.shuffle(shuffled)
    again = {image.image_id: image for image in identified(shuffled, Counter())}
    assert again == before
    more = {image.image_id: image for image in identified([*others, *rows], Counter())}
    for number, image in before.items():
        assert more[number].file_name == image.file_name
        assert set(image.captions) <= set(more[number].captions)


def test_the_same_text_twice_is_two_captions():
    (image,) = identified([("a.jpg", "x"), ("a.jpg", "x")], Counter())
    assert [text for _, text in image.captions] == ["x", "x"]
    assert len({number for number, _ in image.captions}) == 2


@pytest.mark.parametrize("what", ["images", "captions"])
def test_ids_that_collide_are_refused(monkeypatch, what: str):
    def short(*parts: object) -> int:
        return 7 if (len(parts) == 1) == (what == "images") else captioned_image_id(*parts)

    captioned_image_id = captioned_image.content_id
    monkeypatch.setattr(captioned_image, "content_id", short)
    with pytest.raises(OvsegError, match=rf"two {what}, of 'a.jpg' and 'b.jpg', have the id 7 by"):
        list(identified([("a.jpg", "x"), ("b.jpg", "y")], Counter()))


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "train/a.jpg", "./a..b.jpg", "...", "ä b.jpg", "12:30/a.jpg", "data:a.jpg"],
)
def test_names_inside_the_folder(name: str):
    assert inside(name)


@pytest.mark.parametrize(
    "name",
    [
        *("../a.jpg", "a/../../b.jpg", "/etc/passwd", "..\\a.jpg", "C:\\a.jpg", "a\0.jpg", ".."),
        *("https://host/a.jpg", "s3://bucket/a.jpg", "file:/etc/passwd", "zip::s3://b/a.jpg"),
        "data:image/png;base64,aGk=",
    ],
)
def test_names_that_lead_out_of_the_folder(name: str):
    assert not inside(name)


def test_real_captions(reference_data: Path):
    path = reference_data / "realdata/coco_captions_val2017/annotations/captions_val2017.json"
    found = read_captions(path)
    assert len(found.images) == 5000
    assert sum(len(image.captions) for image in found.images) == 25014
    assert found.left_out == {}
