"""The list of stop nouns and its reader."""

from pathlib import Path

import pytest

from ovseg.errors import OvsegError
from ovseg.mining.nouns.lemmas import singular
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.storybook.categories import CATEGORIES

VOCABULARIES = Path(__file__).parents[2] / "ovseg" / "data" / "benchmarks" / "vocabularies"


def test_the_list_groups_what_cannot_be_seen() -> None:
    stop_nouns = StopNouns.load()
    assert stop_nouns.group("photo") == "picture"
    assert stop_nouns.group("couple") == "amount"
    assert stop_nouns.group("fence", "front") == "place"
    assert stop_nouns.group("fence") is None
    assert stop_nouns.is_exception("parking lot") and stop_nouns.group("lot") == "amount"
    assert StopNouns.none().group("photo") is None


def test_every_stop_noun_is_a_lemma() -> None:
    words = StopNouns.load().groups
    assert [word for word in words if singular(word) != word] == []


def test_nothing_drawn_or_benchmarked_is_a_stop_noun() -> None:
    stop_nouns = StopNouns.load()
    names = [name for item in CATEGORIES for name in (item.name, *item.synonyms, *item.compounds)]
    for vocabulary in ("voc-20", "ade20k-150", "coco-stuff-171"):
        lines = (VOCABULARIES / f"{vocabulary}.txt").read_text(encoding="utf-8").splitlines()
        names += [name for name in lines if name and not name.startswith("#")]
    assert len(names) > 300

    def stops(word: str) -> bool:
        return bool(stop_nouns.group(word, word.split()[-1])) and not stop_nouns.is_exception(word)

    # "painting, picture" is found by its other word
    stopped = [name for name in names if all(stops(word) for word in name.split(", "))]
    assert stopped == ["trade name"]  # of ADE20K, a shop's sign


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("noun\tgroup\n", "first line"),
        ("noun\tgroup\treason\nphoto\tpicture\n", "2: give"),
        ("noun\tgroup\treason\nPhoto\tpicture\tx\n", "2: give"),
        ("noun\tgroup\treason\na\tb\tc\na\td\te\n", "listed twice"),
    ],
)
def test_a_broken_list_names_the_line(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "stop.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(OvsegError, match=complaint):
        StopNouns.load(path)


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OvsegError, match="cannot read the stop nouns"):
        StopNouns.load(tmp_path / "none.tsv")
