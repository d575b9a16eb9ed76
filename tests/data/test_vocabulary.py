"""Class names of the benchmarks, their synonyms, stored values, prompts and published splits."""

import json
import re

import pytest

from ovseg.data.benchmarks.published import PUBLISHED
from ovseg.data.benchmarks.vocabulary import (
    FOLDER,
    normalized,
    published_splits,
    read_prompts,
    read_vocabulary,
    stored_values,
    vocabulary_names,
    with_synonyms,
)
from ovseg.errors import OvsegError

SIZES = {
    "ade20k-150": 150,
    "ade20k-847": 847,
    "cityscapes-19": 19,
    "coco-panoptic-133": 133,
    "coco-stuff-171": 171,
    "context-59": 59,
    "context-459": 459,
    "voc-20": 20,
    "voc-20b": 21,
    "voc-21": 21,
}


def names(benchmark: str) -> list[str]:
    return [each.name for each in read_vocabulary(benchmark)]


def test_every_benchmark_has_its_number_of_distinct_classes():
    assert vocabulary_names() == sorted([*SIZES, "storybook"])
    assert {spec.vocabulary for spec in PUBLISHED.values()} == set(SIZES)
    for name in vocabulary_names():
        classes = read_vocabulary(name)
        assert [each.class_id for each in classes] == list(range(len(classes)))
        texts = names(name)
        assert len(set(texts)) == len(texts) == SIZES.get(name, len(texts)) >= 19
        assert all(text == text.strip() and text for text in texts)


@pytest.mark.parametrize("name", SIZES)
def test_a_synonym_is_no_other_class_and_stands_once(name):
    classes = read_vocabulary(name)
    assert not {*names(name)} & {word for each in classes for word in each.synonyms}
    assert any(each.synonyms for each in classes)
    for each in classes:
        assert len(set(each.synonyms)) == len(each.synonyms)
        assert all(word == word.strip() and word for word in each.synonyms)


def test_synonyms_belong_to_their_class():
    stuff = {each.name: each.synonyms for each in read_vocabulary("coco-stuff-171")}
    assert stuff["wall-brick"] == ("brick wall",)
    assert stuff["tree"] == ()
    ade = {each.name: each.synonyms for each in read_vocabulary("ade20k-150")}
    assert ade["building"] == ("edifice",)
    assert ade["road, route"] == ("road", "route")
    assert "streetlight" in ade["street lamp"]
    # a part that is another class's name is that class's
    assert ade["buffet, counter, sideboard"] == ("buffet", "sideboard")


def test_tables_name_classes_that_exist():
    for file, column in (("synonyms.tsv", "synonym"), ("prompts.tsv", "prompt")):
        lines = (FOLDER / file).read_text(encoding="utf-8").splitlines()
        assert lines[0] == f"benchmark\tclass_name\t{column}"
        assert len(lines) == len(set(lines))
        for line in lines[1:]:
            benchmark, name, word = line.split("\t")
            assert name in names(benchmark) and word


def test_names_are_verbatim_those_of_the_published_evaluations():
    full = names("ade20k-847")
    assert sum("," in name for name in full) == 217 and max(map(len, full)) == 113
    assert full[:2] == ["wall", "building, edifice"]
    ade = names("ade20k-150")
    assert ade[6] == "road, route" and ade[8] == "window"  # the published one ends in a space
    assert {"building-other", "wall-brick", "playingfield"} <= {*names("coco-stuff-171")}
    assert {"diningtable", "pottedplant", "tvmonitor"} <= {*names("voc-20")}
    assert names("context-59")[10] == "table" and names("context-59")[:20] == [
        {"diningtable": "table"}.get(name, name) for name in names("voc-20")
    ]
    assert "unknown" in names("context-459") and "air conditioner" in names("context-459")
    assert names("voc-20b") == [*names("voc-20"), "background"]
    assert names("voc-21") == ["background", *names("voc-20")]


def test_stored_values():
    for name in SIZES:
        values = stored_values(name)
        assert len(set(values)) == len(values) == SIZES[name] and min(values) >= 0
    # 182 ids from 0 without the eleven that nothing was labelled with
    gaps = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    assert stored_values("coco-stuff-171") == tuple(sorted({*range(182)} - gaps))
    # a class of the 59 is stored as its number among the 459, which are in alphabetical order
    together = [normalized(name).replace(" ", "") for name in names("context-459")]
    for name, value in zip(names("context-59"), stored_values("context-59"), strict=True):
        assert together[value - 1] == name
    # the full ADE20K numbers its classes by their names in order, but for a few it added later
    early = sorted(p for p in zip(stored_values("ade20k-847"), names("ade20k-847")) if p[0] < 3098)
    assert len(early) == 827 and [name for _, name in early] == sorted(name for _, name in early)
    assert stored_values("cityscapes-19")[:3] == (7, 8, 11)
    with pytest.raises(OvsegError, match="no stored value"):
        stored_values("storybook")


def test_background_stands_for_what_context_adds_to_voc():
    prompts = read_prompts("voc-20b")
    assert len(prompts) == 59 and [text for text, _ in prompts[:20]] == names("voc-20")
    rest = [text for text, index in prompts if index == 20]
    assert len(rest) == 39 and {*rest} == {*names("context-59")} - {*names("voc-20"), "table"}
    assert read_prompts("voc-20") == read_prompts("voc-21") == ()


@pytest.mark.parametrize(
    ("benchmark", "split", "seen", "an_unseen"),
    [
        ("coco-stuff-171", "156-15", 156, "giraffe"),
        ("voc-20", "15-5", 15, "tvmonitor"),
        ("ade20k-150", "coco-stuff", 67, "palm, palm tree"),
    ],
)
def test_published_splits(benchmark, split, seen, an_unseen):
    assert list(published_splits(benchmark)) == [split]
    parts = published_splits(benchmark)[split]
    assert list(parts) == names(benchmark) and parts[an_unseen] == "unseen"
    assert sum(part == "seen" for part in parts.values()) == seen
    (path,) = (FOLDER / "splits").glob(f"{benchmark}.*")
    lines = path.read_text(encoding="utf-8").splitlines()
    classes = [line for line in lines if not line.startswith("#")]
    assert lines[0].startswith("# ") and len({*classes}) == len(classes)
    assert {*classes} <= {*names(benchmark)}
    if benchmark == "ade20k-150":
        stuff = frozenset().union(*(each.words for each in read_vocabulary("coco-stuff-171")))
        shared = [each.name for each in read_vocabulary(benchmark) if each.words & stuff]
        assert classes == shared


def test_a_part_that_is_another_class_is_no_synonym():
    classes = with_synonyms(("buffet, counter, Side-board", "counter", "side board"), {})
    assert [sorted(each.words) for each in classes] == [
        ["buffet", "buffet, counter, side board"],
        ["counter"],
        ["side board"],
    ]


def test_an_unknown_benchmark_is_named():
    with pytest.raises(OvsegError, match=r"no class names of 'lvis'.*voc-20"):
        read_vocabulary("lvis")


def test_names_are_those_of_public_lists(reference_data):
    lists = reference_data / "realdata" / "class_lists_catseg" / "datasets"
    read = {path.stem: json.loads(path.read_text()) for path in lists.glob("*.json")}
    assert names("coco-stuff-171") == read["coco"] and names("voc-20") == read["voc20"]
    assert names("ade20k-847") == read["ade847"]
    # the official evaluation writes the words of a class apart, and one class otherwise
    assert [name.replace(" ", "") for name in names("context-459")] == read["pc459"]
    own = ["diningtable" if name == "table" else name for name in names("context-59")]
    assert own == read["voc20b"] and sorted(own) == sorted(read["pc59"])
    assert [text for text, _ in read_prompts("voc-20b")] == read["voc20b"]
    # 150 classes in the same order under shorter or other words
    for each, short in zip(read_vocabulary("ade20k-150"), read["ade150"], strict=True):
        assert normalized(short) in each.words or short in ("television receiver", "apparel")


def test_values_are_those_of_their_owners(reference_data):
    real = reference_data / "realdata"
    text = (real / "class_lists_cocostuff" / "labels.txt").read_text()
    numbers = {int(number): name for number, name in re.findall(r"(\d+): (.+)", text)}
    for name, value in zip(names("coco-stuff-171"), stored_values("coco-stuff-171"), strict=True):
        assert numbers[value + 1] == name
    categories = json.loads((real / "panopticapi_sample/panoptic_coco_categories.json").read_text())
    published = {category["name"]: category["id"] for category in categories}
    own = zip(names("coco-panoptic-133"), stored_values("coco-panoptic-133"), strict=True)
    assert dict(own) == published
    info = (real / "ade20k_sceneparsing" / "objectInfo150.txt").read_text().splitlines()[1:]
    for each, value, line in zip(
        read_vocabulary("ade20k-150"), stored_values("ade20k-150"), info, strict=True
    ):
        number, *_, words = line.split("\t")
        assert int(number) == value and each.words & {normalized(w) for w in words.split(",")}


def test_full_ade20k_numbers_are_those_of_its_annotations(reference_data):
    name_of = dict(zip(stored_values("ade20k-847"), names("ade20k-847"), strict=True))
    number_of = {name: number for number, name in name_of.items()}
    met = set()
    for path in (reference_data / "realdata" / "ade20k_full_sample").rglob("ADE_*.json"):
        for item in json.loads(path.read_text(encoding="latin1"))["annotation"]["object"]:
            if item["name_ndx"] in name_of or item["name"] in number_of:
                assert name_of[item["name_ndx"]] == item["name"]
                met.add(item["name"])
    assert len(met) == 29
