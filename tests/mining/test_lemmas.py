"""Singulars by spelling and by the table of exceptions."""

import csv

import pytest

from ovseg.mining.nouns.lemmas import IRREGULAR_PLURALS, noun_lemma, singular


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("dogs", "dog"),
        ("buses", "bus"),
        ("horses", "horse"),
        ("glasses", "glass"),
        ("benches", "bench"),
        ("dishes", "dish"),
        ("boxes", "box"),
        ("tomatoes", "tomato"),
        ("shoes", "shoe"),
        ("canoes", "canoe"),
        ("puppies", "puppy"),
        ("movies", "movie"),
        ("ties", "tie"),
        ("knives", "knife"),
        ("waves", "wave"),
        ("leaves", "leaf"),
        ("men", "man"),
        ("women", "woman"),
        ("fishermen", "fisherman"),
        ("grandchildren", "grandchild"),
        ("teeth", "tooth"),
        ("geese", "goose"),
        ("skis", "ski"),
        ("menus", "menu"),
        ("zebras", "zebra"),
        ("lenses", "lens"),
        ("tvs", "tv"),
        ("sizes", "size"),
    ],
)
def test_plurals_become_singulars(plural: str, one: str) -> None:
    assert singular(plural) == one


@pytest.mark.parametrize(
    "word",
    [
        "bus",
        "grass",
        "tennis",
        "octopus",
        "scissors",
        "jeans",
        "pants",
        "sunglasses",
        "series",
        "news",
        "canvas",
        "gas",
        "people",
        "sheep",
        "fish",
        "christmas",
        "omen",
        "ramen",
        "us",
        "s",
    ],
)
def test_what_is_no_plural_stays(word: str) -> None:
    assert singular(word) == word


def test_a_singular_is_its_own_singular() -> None:
    with IRREGULAR_PLURALS.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len({row["plural"] for row in rows}) == len(rows)
    unstable = [row["singular"] for row in rows if singular(row["singular"]) != row["singular"]]
    assert unstable == []


def test_the_pipeline_decides_about_names() -> None:
    assert noun_lemma("james", "james", name=True) == "james"
    assert noun_lemma("bananas", "bananas") == "banana"
