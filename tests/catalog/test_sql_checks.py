"""The checks in sql/tests: they find what is broken, and take as long as the rows are many."""

import functools
import json

import duckdb
import pytest

from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.relations import RELATIONS
from ovseg.files.parquet_files import write_parquet
from ovseg.mining.pairs.sql import columns, empty, scan
from ovseg.stages.schema import rows_to_table
from tests.catalog.test_sql import CHECKS, EVERYTHING, VIEWS, records


@pytest.fixture(scope="module")
def con(finished):
    with open_catalog(finished.root) as con:
        yield con


def _first(rows, **change):
    next(row for row in rows if row["kept"]).update(change)
    return rows


def _trained(rows):
    return [{"pair_id": row["pair_id"], "noun": row["noun"]} for row in rows if row["kept"]]


def _broken(toy):
    """For each check, relations with one thing wrong."""
    pairs, images, nouns = toy.pair_rows, toy.image_rows, toy.noun_rows
    proposals, truth = toy.proposal_rows, toy.truth_rows
    curated = [{"pair_id": row["pair_id"], "noun": row["noun"]} for row in pairs() if row["kept"]]
    labels, nouns_of = (
        functools.partial(toy.truth_pair_rows, source) for source in ("gt_label", "gt_noun")
    )
    classes = [{"benchmark": "storybook", "class_name": name} for name in ("dog", "cat", "sea")]
    unseen = [{**row, "seen": False} for row in toy.class_rows("d") if row["class_name"] == "dog"]
    return {
        "pair_id_is_unique": [
            {"pairs": [*pairs(), pairs()[0]]},
            {"pairs": [*pairs(), {"pair_id": None}]},
        ],
        "pair_grain_is_unique": [{"pairs": [*pairs(), {**pairs()[0], "pair_id": "another"}]}],
        "kept_or_dropped_for_a_reason": [
            {"pairs": _first(pairs(), kept=False)},
            {"pairs": _first(pairs(), drop_reason="low_margin")},
            {"pairs": _first(pairs(), kept=None)},
            {"images": _first(images(), kept=False)},
            {"nouns": _first(nouns(), drop_reason="stop:time")},
            {"proposals": _first(proposals(), kept=False)},
        ],
        "ranks_start_at_one": [
            {"pairs": _first(pairs(), noun_rank=0)},
            {"pairs": _first(pairs(), proposal_rank=-1)},
        ],
        "mutual_best_is_first_both_ways": [
            {"pairs": _first(pairs(), mutual_best=True, noun_rank=2)},
            {"pairs": _first(pairs(), mutual_best=None, noun_rank=1)},
            {"pairs": [*pairs(), {"pair_id": "x", "mutual_best": True}]},
        ],
        "rows_have_their_image": [
            {"pairs": [*pairs(), {**pairs()[0], "image_id": 99}], "images": images()},
            {"nouns": [*nouns(), {**nouns()[0], "image_id": 99}], "images": images()},
            {"proposals": proposals(), "images": images()[:3]},
        ],
        "areas_are_fractions": [
            {"pairs": _first(pairs(), area_fraction=1.5)},
            {"proposals": _first(proposals(), area_fraction=-0.1)},
            {"proposals": _first(proposals(), area_fraction=float("nan"))},
        ],
        "similarities_are_cosines": [
            {"pairs": _first(pairs(), clip_similarity=1.01)},
            {"pairs": _first(pairs(), clip_similarity=float("nan"))},
            {"pairs": _first(pairs(), clip_margin=-0.1)},
        ],
        "kept_pairs_have_a_mask": [
            {"pairs": _first(pairs(), mask_counts=None)},
            {"pairs": _first(pairs(), mask_counts=b"")},
            {"pairs": _first(pairs(), mask_size=[10, 8])},
            {"pairs": _first(pairs(), bbox_xyxy=[0, 0, 11, 8])},
            {"pairs": _first(pairs(), bbox_xyxy=[4, 0, 4, 8])},
            {"pairs": _first(pairs(), noun=" ")},
        ],
        "mentions_lie_in_the_caption": [
            {"nouns": _first(nouns(), char_start=1), "images": images()},
            {"nouns": _first(nouns(), surface="cow"), "images": images()},
            {"nouns": _first(nouns(), char_start=-1), "images": images()},
            {"nouns": _first(nouns(), char_end=10_000), "images": images()},
        ],
        "curated_pairs_exist": [
            {"curated": curated, "pairs": pairs()[3:]},
            {"curated": [*curated, curated[0]], "pairs": pairs()},
        ],
        "truth_is_of_kept_pairs": [
            {"pair_truth": truth(), "pairs": pairs()[4:]},
            {"pair_truth": truth(), "pairs": _first(pairs(), kept=False, drop_reason="x")},
        ],
        "ground_truth_claims_no_score": [
            {"pairs": _first(nouns_of(), proposal_score=0.5)},
            *(
                {"pairs": _first(labels(), **{column: value})}
                for column, value in (
                    ("proposal_score", 0.5),
                    ("proposal_id", 1),
                    ("clip_similarity", 0.2),
                    ("clip_margin", 0.0),
                    ("noun_rank", 1),
                    ("proposal_rank", 1),
                    ("mutual_best", False),
                    ("clip_model", "hand@0"),
                    ("mentions", []),
                    ("head", "fence"),
                    ("parser", "hand@0"),
                )
            ),
        ],
        "label_nouns_are_class_names": [
            {"pairs": _first(labels(), noun="dawg"), "vocabularies": classes},
            {"pairs": _first(labels(), noun="Dog"), "vocabularies": classes},
        ],
        "unseen_classes_train_no_mask": [
            {"pairs": labels(), "curated": _trained(labels()), "class_scores": unseen},
            {"pairs": nouns_of(), "curated": _trained(nouns_of()), "class_scores": unseen},
        ],
        "scores_are_fractions": [
            {"scores": [{**toy.metric_rows("d", "a")[0], "value": 29.6}]},
            {"scores": [{**toy.metric_rows("d", "a")[0], "low": 0.4, "high": 0.3}]},
            {"class_scores": [{**toy.class_rows("d")[0], "iou": -0.1}]},
        ],
    }


def _fill(con, case, folder):
    """Give a database the catalogue's relations: those of the case, and empty ones."""
    folder.mkdir()
    for relation, kind in ((name, each.schema) for name, each in RELATIONS.items()):
        select = empty(kind)
        if relation in case:
            path = folder / f"{relation}.parquet"
            write_parquet(rows_to_table(case[relation], kind), path)
            select = f"select {columns(kind)} from {scan([path])}"
        con.execute(f"create view {relation} as {select}")
    for view in ("kept_pairs", "training_pairs"):
        con.execute(f"create view {view} as {VIEWS[view].text}")


def test_the_three_sources_side_by_side_pass_every_check(toy, tmp_path):
    labels, nouns = (toy.truth_pair_rows(source) for source in ("gt_label", "gt_noun"))
    pairs = [*toy.pair_rows(), *labels, *nouns]
    names = ("dog", "cat", "sea", "moon")
    classes = [
        {**toy.class_rows("d")[0], "class_id": index, "class_name": name, "seen": name != "moon"}
        for index, name in enumerate(names)
    ]
    case = {
        "pairs": pairs,
        "images": toy.image_rows(),
        "curated": _trained(pairs),
        "class_scores": classes,
        "vocabularies": [{"benchmark": "storybook", "class_name": name} for name in names],
    }
    assert "moon" in {row["noun"] for row in pairs if row["kept"]} and len(labels) > 3 and nouns
    with duckdb.connect() as con:
        _fill(con, case, tmp_path / "good")
        assert {name: records(con, check.text) for name, check in CHECKS.items()} == {
            name: [] for name in CHECKS
        }


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_passes_on_good_rows_and_finds_each_broken_one(con, toy, tmp_path, name):
    assert records(con, CHECKS[name].text) == []
    cases = _broken(toy)
    assert set(cases) == set(CHECKS)
    for number, case in enumerate(cases[name]):
        with duckdb.connect() as broken:
            _fill(broken, case, tmp_path / str(number))
            assert records(broken, CHECKS[name].text), f"case {number} goes unnoticed"


def _spoken(texts, mentions):
    """Images of one caption each, and mentions (image, surface, start, end) of them."""
    images = [
        {"dataset": "d", "image_id": image, "captions": [{"caption_id": image, "text": text}]}
        for image, text in enumerate(texts)
    ]
    nouns = [
        {
            **{"dataset": "d", "image_id": image, "caption_id": image, "noun": "dog"},
            **{"surface": surface, "char_start": start, "char_end": end},
        }
        for image, surface, start, end in mentions
    ]
    return {"images": images, "nouns": nouns}


def test_mentions_are_compared_character_by_character_wherever_they_lie(tmp_path):
    """Within, across and beyond the pieces that captions are compared by."""
    pattern = "a dé\n😀e\u0301日 "
    texts = [(pattern * 400)[:length] for length in (0, 5, 999, 1000, 1001, 2000, 3500)]
    right, wrong = [], []
    for image, text in enumerate(texts):
        for start in (0, 1, 990, 999, 1000, 1001, 1999, 2000, 3400):
            for length in (1, 2, 12, 1000, 1001, 2400):
                end = start + length
                surface = text[start:end]
                good = len(surface) == length
                (right if good else wrong).append((image, surface, start, end))
                if good:
                    for place in {0, length // 2, length - 1}:
                        changed = surface[:place] + "#" + surface[place + 1 :]
                        wrong.append((image, changed, start, end))
                    wrong.append((image, surface + "#", start, end))
    with duckdb.connect() as con:
        _fill(con, _spoken(texts, right + wrong), tmp_path / "case")
        found = records(con, CHECKS["mentions_lie_in_the_caption"].text)
    keys = ("image_id", "surface", "char_start", "char_end")
    assert len(right) > 100
    assert {tuple(row[key] for key in keys) for row in found} == set(wrong)


@pytest.mark.timeout(120)
def test_a_caption_of_840_000_characters_is_checked_as_fast_as_many_short_ones(tmp_path):
    """To take each mention out of the whole caption would take many minutes."""
    count = 120_000
    mentions = [(0, "dog", 7 * index + 2, 7 * index + 5) for index in range(count)]
    mentions[-2] = (0, "cat", *mentions[-2][2:])
    with duckdb.connect() as con:
        _fill(con, _spoken(["A dog. " * count], mentions), tmp_path / "case")
        (found,) = records(con, CHECKS["mentions_lie_in_the_caption"].text)
    assert (found["surface"], found["char_start"]) == ("cat", 7 * (count - 2) + 2)


REPORTED = {
    **dict.fromkeys(
        (
            *("benchmark_images", "classes", "curve_settings"),
            *("image_scores", "mask_confusions", "pixel_confusions"),
        ),
        ("toy",),
    ),
    "sample_pairs": [["cat"], 3],
    "worst_masks": ["toy", "both", 5],
}
"""What the report gives its selects, by their name; the others have no parameters."""


def _operators(plan):
    yield plan["name"].strip(), str(plan["extra_info"].get("Condition", ""))
    for child in plan["children"]:
        yield from _operators(child)


@pytest.mark.parametrize(
    "file", EVERYTHING, ids=lambda file: f"{file.path.parent.name}-{file.name}"
)
def test_no_join_looks_at_every_pair_of_rows(file):
    """Joins are by equal keys, but for a handful of rows (data sets, gates) beside each row."""
    with duckdb.connect() as con:
        for name, relation in RELATIONS.items():
            con.execute(f"create table {name} as {empty(relation.schema)}")
            nulls = ", ".join("null" for _ in relation.schema)
            con.execute(f"insert into {name} select {nulls} from range(3000)")
        for view in VIEWS.values():
            con.execute(f"create view {view.name} as {view.text}")
        values = REPORTED.get(file.name, []) if file.path.parent.name == "report" else []
        explain = f"explain (format json) {file.text}"
        ((_, text),) = con.execute(explain, values).fetchall()
    loops = {
        (name, condition)
        for plan in json.loads(text)
        for name, condition in _operators(plan)
        if name in ("BLOCKWISE_NL_JOIN", "NESTED_LOOP_JOIN", "PIECEWISE_MERGE_JOIN", "IE_JOIN")
    }
    few = {("BLOCKWISE_NL_JOIN", "true")}
    assert loops <= few or file.name == "confident", loops
