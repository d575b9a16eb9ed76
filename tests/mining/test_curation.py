"""Curation queries: what each selects, what the stage refuses, what the query may see."""

import pytest

from ovseg.config.mining import CurationConfig, curation_sources, load_curation
from ovseg.errors import OvsegError
from ovseg.files.sql_files import sql_files
from ovseg.mining.pairs.curation import CURATE
from ovseg.mining.pairs.table import table_files
from ovseg.stages.run import run_stage
from ovseg.stages.schema import CURATED

NAMES = [file.name for file in sql_files("curation")]


def curate(sql, table, root, **more):
    config = CurationConfig(query="mine", sql=sql)
    return run_stage(CURATE, config, {"table": table, **more}, root)


def select(name, toy, root, rows=None):
    """The (image, noun) pairs a query of the repository selects from a table of these rows."""
    rows = toy.pair_rows() if rows is None else rows
    table = toy.publish_table(root, rows)
    curated = run_stage(CURATE, load_curation(name), {"table": table}, root).table()
    by_id = {row["pair_id"]: row for row in rows}
    return sorted((by_id[row["pair_id"]]["image_id"], row["noun"]) for row in curated.to_pylist())


def kept(toy):
    return [row for row in toy.pair_rows() if row["kept"]]


def named(rows):
    return sorted((row["image_id"], row["noun"]) for row in rows)


def test_paper_takes_every_kept_mined_pair(toy, tmp_path):
    assert select("paper", toy, tmp_path) == named(kept(toy))


def test_mutual_best(toy, tmp_path):
    chosen = [row for row in kept(toy) if row["mutual_best"]]
    assert 0 < len(chosen) < len(kept(toy))
    assert select("mutual_best", toy, tmp_path) == named(chosen)


def test_consistent_takes_what_is_more_alike_than_its_noun_usually_is(toy, tmp_path):
    row = next(row for row in toy.pair_rows() if row["kept"])

    def pair(number, noun, similarity, score, mutual=True):
        return {
            **row,
            "pair_id": f"{number:016x}",
            "image_id": number,
            "noun": noun,
            "clip_similarity": similarity,
            "proposal_score": score,
            "mutual_best": mutual,
        }

    rows = [
        pair(1, "road", 0.70, 0.5),  # above the mean of its noun
        pair(2, "road", 0.60, 0.5),  # below it, though above any kite
        pair(3, "kite", 0.40, 0.5),
        pair(4, "kite", 0.25, 0.5),
        pair(5, "kite", 0.20, 0.5, mutual=False),  # counts for the mean only
        pair(6, "sky", 0.50, 0.9),  # of the surest fifth
        pair(7, "sky", 0.40, 0.5),
        pair(8, "moon", 0.90, 0.5),  # alone: no better than itself
    ]
    assert select("consistent", toy, tmp_path, rows) == [(1, "road"), (3, "kite")]


def test_heads_and_compounds_share_out_the_nouns(toy, tmp_path):
    heads = select("heads_only", toy, tmp_path)
    compounds = select("compounds_only", toy, tmp_path)
    assert {noun for _, noun in compounds} == {
        row["noun"] for row in kept(toy) if row["head"] is not None
    }
    assert compounds
    assert sorted(heads + compounds) == named(kept(toy))


def test_most_specific_drops_the_head_where_the_image_has_its_compound(toy, tmp_path):
    rows = toy.pair_rows()
    for row in rows:
        if "fence" in row["noun"] and row["image_id"] in (1, 4):
            row.update(kept=row["image_id"] == 1 or row["head"] is None, drop_reason=None)
            row["drop_reason"] = None if row["kept"] else "low_similarity"
    found = select("most_specific", toy, tmp_path, rows)
    assert (1, "picket fence") in found
    assert (1, "fence") not in found
    assert (4, "fence") in found  # its compound was dropped


def test_capped_takes_the_best_hundred_of_a_noun(toy, tmp_path):
    row = next(row for row in toy.pair_rows() if row["kept"])
    rows = [
        {**row, "pair_id": f"{i:016x}", "image_id": i, "noun": noun, "clip_similarity": i / 1000}
        for i in range(130)
        for noun in (["dog", "cat"] if i < 30 else ["dog"])
        if (i, noun) != (0, "cat")
    ]
    for index, each in enumerate(rows):
        each["pair_id"] = f"{index:016x}"
    found = select("capped", toy, tmp_path, rows)
    assert [image for image, noun in found if noun == "dog"] == list(range(30, 130))
    assert [image for image, noun in found if noun == "cat"] == list(range(1, 30))


def test_confident_wants_similarity_margin_and_score(toy, tmp_path):
    row = next(row for row in toy.pair_rows() if row["kept"])
    rows = [
        {
            **row,
            "pair_id": f"{i:016x}",
            "image_id": i,
            "clip_similarity": i / 10,
            "clip_margin": 0.5,
            "proposal_score": 0.9,
        }
        for i in range(9)  # similarities 0.0 to 0.8: the lowest quarter ends at 0.2
    ]
    rows[4]["proposal_score"] = 0.4
    rows[5]["clip_margin"] = 0.1
    rows[6]["clip_margin"] = None
    found = select("confident", toy, tmp_path, rows)
    assert [image for image, _ in found] == [2, 3, 6, 7, 8]


def with_mentions(toy, captions_by_noun):
    row = next(row for row in toy.pair_rows() if row["kept"])
    mention = row["mentions"][0]
    return [
        {
            **row,
            "pair_id": f"{index:016x}",
            "noun": noun,
            "mentions": [{**mention, "caption_id": caption} for caption in captions],
        }
        for index, (noun, captions) in enumerate(captions_by_noun.items())
    ]


def test_one_caption_takes_what_the_first_caption_mentions(toy, tmp_path):
    rows = with_mentions(toy, {"dog": [12, 11], "cat": [12], "house": [11], "sea": [13, 14]})
    assert [noun for _, noun in select("one_caption", toy, tmp_path, rows)] == ["dog", "house"]


def test_one_caption_counts_the_captions_of_dropped_pairs(toy, tmp_path):
    rows = with_mentions(toy, {"dog": [11], "cat": [12]})
    rows[0].update(kept=False, drop_reason="low_similarity")
    rows.append({**rows[1], "image_id": 2, "pair_id": "f" * 16})
    assert select("one_caption", toy, tmp_path, rows) == [(2, "cat")]


def test_five_captions_leave_out_the_sixth(toy, tmp_path):
    rows = with_mentions(
        toy, {"dog": [11, 16], "cat": [12], "house": [13, 14], "sea": [15], "moon": [16, 17]}
    )
    found = [noun for _, noun in select("five_captions", toy, tmp_path, rows)]
    assert found == ["cat", "dog", "house", "sea"]


def test_the_papers_training_sets_are_told_by_source_and_caption(toy, tmp_path):
    """Tables of the three sources of the same images; each query takes its own rows."""
    first = {1: 10, 2: 20, 3: 30, 4: 40}  # of each image the first caption with a noun
    labels, nouns = (toy.truth_pair_rows(source) for source in ("gt_label", "gt_noun"))
    nouns = [{**row, "kept": True, "drop_reason": None} for row in nouns]
    (late,) = (row for row in nouns if (row["image_id"], row["noun"]) == (3, "dog"))
    late["mentions"] = late["mentions"][1:]  # by the second caption alone
    tables = {
        "table": toy.publish_table(tmp_path),
        "table/gt_label": toy.publish_table(tmp_path, labels, source="gt_label"),
        "table/gt_noun": toy.publish_table(tmp_path, nouns, source="gt_noun"),
    }

    def selected(name):
        return run_stage(CURATE, load_curation(name), tables, tmp_path).table().to_pylist()

    def of_first_caption(rows):
        return {
            row["pair_id"]
            for row in rows
            if row["kept"]
            and first[row["image_id"]] in [mention["caption_id"] for mention in row["mentions"]]
        }

    mined = of_first_caption(toy.pair_rows())
    labelled = {row["pair_id"] for row in labels}
    expected = {
        "gt_labels": labelled,
        "gt_nouns": of_first_caption(nouns),
        "one_caption": mined,
        "five_captions": {row["pair_id"] for row in kept(toy)},
        "labels_and_captions": mined | labelled,
    }
    assert len(expected["gt_nouns"]) < sum(row["kept"] for row in nouns)
    assert len(mined) < len(kept(toy))
    for name, ids in expected.items():
        assert ids and {row["pair_id"] for row in selected(name)} == ids, name


def test_a_query_says_which_sources_it_selects_from(tmp_path):
    own = tmp_path / "own.sql"
    assert {name: curation_sources(name) for name in NAMES} == {
        **dict.fromkeys(NAMES, ("mined",)),
        "gt_labels": ("gt_label",),
        "gt_nouns": ("gt_noun",),
        "labels_and_captions": ("mined", "gt_label"),
    }
    own.write_text("select pair_id, noun from kept_pairs")
    assert curation_sources(str(own)) == ("mined",)
    own.write_text("-- All.\n-- Sources: gt_noun, mined.\nselect pair_id, noun from kept_pairs")
    assert curation_sources(str(own)) == ("gt_noun", "mined")
    own.write_text("-- Sources: gt_labels.\nselect pair_id, noun from kept_pairs")
    with pytest.raises(
        OvsegError, match=r"unknown pair source 'gt_labels'; name some of mined, gt"
    ):
        curation_sources(str(own))
    for name in NAMES:  # a query that selects from a source says so
        text = load_curation(name).sql
        named = {source for source in ("mined", "gt_label", "gt_noun") if f"'{source}'" in text}
        assert named == set(curation_sources(name))


# --------------------------------------------------------------------------------------
# The stage


def test_the_noun_may_be_renamed_and_the_result_is_ordered(toy, tmp_path):
    table = toy.publish_table(tmp_path)
    sql = "select coalesce(head, noun) as noun, pair_id from kept_pairs order by random()"
    curated = curate(sql, table, tmp_path)
    found = curated.table()
    assert found.schema.equals(CURATED, check_metadata=True)
    ids = found["pair_id"].to_pylist()
    assert ids == sorted(ids)
    assert "picket fence" not in found["noun"].to_pylist()
    rows = [row for row in toy.pair_rows() if row["kept"]]
    assert curated.stats == {
        "pairs": len(rows),
        "nouns": len({row["head"] or row["noun"] for row in rows}),
        "images": len({row["image_id"] for row in rows}),
        "renamed": sum(row["head"] is not None for row in rows),
    }


def test_two_rounds_are_one_relation(toy, tmp_path):
    first, second = (toy.publish_table(tmp_path, round=round) for round in (0, 1))
    sql = "select pair_id, noun from kept_pairs"
    both = curate(sql, first, tmp_path, second=second)
    assert both.rows == 2 * curate(sql, first, tmp_path).rows


def test_a_query_cannot_overwrite_its_table(toy, tmp_path):
    table = toy.publish_table(tmp_path)
    (path,) = table_files(table)
    before = path.read_bytes()
    copied = f"with c as (copy (select 1) to '{path}') select pair_id, noun from kept_pairs, c"
    with pytest.raises(OvsegError, match="COPY"):
        curate(copied, table, tmp_path)
    assert path.read_bytes() == before


def test_the_digest_covers_the_text_and_the_table(toy, tmp_path):
    table = toy.publish_table(tmp_path)
    sql = "select pair_id, noun from kept_pairs"
    first = curate(sql, table, tmp_path)
    assert curate(sql, table, tmp_path).digest == first.digest
    assert curate(sql + " where true", table, tmp_path).digest != first.digest
    rows = toy.pair_rows()[1:]
    assert curate(sql, toy.publish_table(tmp_path, rows), tmp_path).digest != first.digest


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec pair_id, noun from pairs", "curation mine: Parser Error: syntax error"),
        ("select pair_id, nuon from kept_pairs", 'column "nuon" not found'),
        ("select pair_id from kept_pairs", "returns pair_id; it must return pair_id and noun"),
        ("select pair_id, noun, 1 as one from kept_pairs", "returns pair_id, noun, one"),
        ("select 1 as pair_id, [noun] as noun from kept_pairs", "must be text"),
        ("select pair_id, noun from kept_pairs where false", "selects no pair of mined"),
        (
            "select pair_id, noun from kept_pairs union all select pair_id, 'x' from kept_pairs",
            "is selected 2 times",
        ),
        ("select pair_id, '  ' as noun from kept_pairs", "has no noun"),
        ("select pair_id, null::varchar as noun from kept_pairs", "has no noun"),
        ("select 'feed' as pair_id, 'dog' as noun", "pair feed is not in the table"),
        ("select pair_id, noun from pairs where image_id = 5", "has no mask; select from kept"),
        ("select 1; select pair_id, noun from pairs", "must be one select and nothing else"),
        ("", "must be one select and nothing else"),
        ("create table t as select 1", "must be one select and nothing else"),
        ("select content as noun, 'x' as pair_id from read_text('/etc/hostname')", "Permission"),
        ("select error('boom\n\nLINE 1') as pair_id, noun from pairs", "curation mine: .*boom"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(toy, tmp_path, sql, message):
    table = toy.publish_table(tmp_path)
    with pytest.raises(OvsegError, match=message) as caught:
        curate(sql, table, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "curated").rglob("*.parquet"))


def test_a_query_of_ones_own_is_a_path(tmp_path):
    path = tmp_path / "night.sql"
    path.write_text("select pair_id, noun from pairs")
    assert load_curation(str(path)) == CurationConfig(query="night", sql=path.read_text())
    with pytest.raises(OvsegError, match="does not exist"):
        load_curation(str(tmp_path / "day.sql"))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(OvsegError, match="did you mean capped"):
        load_curation("caped")
    with pytest.raises(OvsegError, match=r"there are .*paper"):
        load_curation("zzz")


@pytest.mark.parametrize("name", NAMES)
def test_every_curation_says_what_it_is(name):
    header = load_curation(name).sql.splitlines()
    assert header[0].startswith("-- ")
    assert any("Grain:" in line for line in header)
