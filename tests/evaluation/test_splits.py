"""Seen classes: by names, by the rule over vocabularies, by published splits in files."""

import pytest

from ovseg.config import BenchmarkConfig
from ovseg.data.vocabulary import read_vocabulary
from ovseg.errors import OvsegError
from ovseg.evaluation import splits
from ovseg.evaluation.splits import benchmark_splits, classes_trained_on, published_split

CLASSES = ("House", "tree", "wall-brick", "sofa, couch, lounge", "moon")


def test_names_go_by_stripped_lower_case_and_nothing_asked_is_no_split():
    assert benchmark_splits(BenchmarkConfig(), CLASSES) == {}
    named = BenchmarkConfig(seen=("house ", "Moon", "elsewhere"))
    assert benchmark_splits(named, CLASSES) == {"": [0, 4]}
    assert benchmark_splits(BenchmarkConfig(seen=("elsewhere",)), CLASSES) == {"": []}


def test_the_rule_joins_names_and_synonyms_of_both_sides():
    # COCO-Stuff has house, tree, wall-brick and couch; no moon
    assert classes_trained_on("mine", CLASSES, ["coco-stuff-171"]) == [0, 1, 2, 3]
    assert classes_trained_on("mine", ("brick wall", "dining  Table"), ["coco-stuff-171"]) == [0, 1]
    # by a listed synonym of the benchmark: VOC's diningtable is a dining table
    names = [each.name for each in read_vocabulary("voc-20")]
    assert classes_trained_on("voc-20", names, ["coco-stuff-171"]) == list(range(20))
    table = names.index("diningtable")
    assert table not in classes_trained_on("mine", names, ["coco-stuff-171"])
    config = BenchmarkConfig(benchmark="mine", trained_on=("coco-stuff-171", "voc-20"))
    assert benchmark_splits(config, CLASSES) == {"": [0, 1, 2, 3]}
    with pytest.raises(OvsegError, match="seen and trained_on"):
        benchmark_splits(config.model_copy(update={"seen": ("moon",)}), CLASSES)
    with pytest.raises(OvsegError, match="no class names of 'nowhere'"):
        classes_trained_on("mine", CLASSES, ["nowhere"])


PARTS = "class_name\tpart\nmoon\tseen\nhouse\tseen\ntree\tunseen\nwall-brick\tunseen\n"
SOFA = "sofa, couch, lounge\tunseen\n"


def test_a_published_split_is_a_file_of_names(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text(PARTS + SOFA, encoding="utf-8")
    assert published_split("mine", str(path), CLASSES) == [0, 4]
    config = BenchmarkConfig(seen=("tree",), seen_split=str(path))
    assert benchmark_splits(config, CLASSES) == {"": [1], "_published": [0, 4]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PARTS, r"do not name the same classes, 'sofa, couch, lounge' is of one alone"),
        (PARTS + SOFA + "sun\tseen\n", "do not name the same classes, 'sun'"),
        (PARTS + SOFA.replace("unseen", "no"), "a part is seen or unseen, not 'no'"),
        ("name\tpart\nmoon\tseen\n", "lacks the column class_name"),
        ("", "lacks the column"),
    ],
)
def test_a_split_of_other_classes_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OvsegError, match=message):
        published_split("mine", str(path), CLASSES)


def test_a_shipped_split_goes_by_benchmark_and_name(tmp_path, monkeypatch):
    rows = [f"mine\t3-2\t{line}" for line in (PARTS + SOFA).splitlines()[1:]]
    rows.append("other\t1-0\tmoon\tseen")
    text = "\n".join(["benchmark\tsplit\tclass_name\tpart", *rows])
    (tmp_path / "splits.tsv").write_text(text, encoding="utf-8")
    monkeypatch.setattr(splits, "FOLDER", tmp_path)
    assert published_split("mine", "3-2", CLASSES) == [0, 4]
    with pytest.raises(OvsegError, match=r"mine has no split '1-0'; choose one of 3-2"):
        published_split("mine", "1-0", CLASSES)
    with pytest.raises(OvsegError, match=r"elsewhere has no split '3-2'; choose one of none"):
        published_split("elsewhere", "3-2", CLASSES)
    with pytest.raises(OvsegError, match="cannot be read as a split"):
        published_split("mine", "nowhere.tsv", CLASSES)
