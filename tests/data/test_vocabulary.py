"""Class names of the benchmarks and their synonyms."""

import json

import pytest

from ovseg.data.vocabulary import read_vocabulary, vocabulary_names
from ovseg.errors import OvsegError

SIZES = {"ade20k-150": 150, "coco-stuff-171": 171, "voc-20": 20}


def test_every_benchmark_has_its_number_of_distinct_classes():
    assert vocabulary_names() == sorted([*SIZES, "storybook"])
    for name in vocabulary_names():
        classes = read_vocabulary(name)
        assert [each.class_id for each in classes] == list(range(len(classes)))
        names = [each.name for each in classes]
        assert len(set(names)) == len(names) == SIZES.get(name, len(names)) >= 20
        assert all(text == text.strip() and text for text in names)


def test_a_synonym_is_no_other_class():
    for name in SIZES:
        classes = read_vocabulary(name)
        names = {each.name for each in classes}
        assert not names & {word for each in classes for word in each.synonyms}
        assert any(each.synonyms for each in classes)


def test_synonyms_belong_to_their_class():
    stuff = {each.name: each.synonyms for each in read_vocabulary("coco-stuff-171")}
    assert stuff["wall-brick"] == ("brick wall",)
    assert stuff["tree"] == ()
    ade = {each.name: each.synonyms for each in read_vocabulary("ade20k-150")}
    assert ade["building"] == ("edifice",)
    assert "street lamp" in ade["streetlight"]


def test_an_unknown_benchmark_is_named():
    with pytest.raises(OvsegError, match=r"no class names of 'lvis'.*voc-20"):
        read_vocabulary("lvis")


def test_names_are_those_published(reference_data):
    lists = reference_data / "realdata" / "class_lists_catseg" / "datasets"
    for benchmark, file in (("coco-stuff-171", "coco.json"), ("voc-20", "voc20.json")):
        published = json.loads((lists / file).read_text())
        assert [each.name for each in read_vocabulary(benchmark)] == published
