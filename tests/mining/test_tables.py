"""The published pair table: order, schema, what it refuses, equal bytes for equal rows."""

import random
from collections import Counter

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.config.mining import TableConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, file_sha256
from ovseg.mining.pairs.table import PAIR_TABLE, table_files
from ovseg.stages.run import run_stage
from ovseg.stages.schema import PAIRS


def read_pairs(table):
    return pa.concat_tables([pq.ParquetFile(path).read() for path in table_files(table)])


def key(row):
    return row["noun"], row["image_id"], row["pair_id"]


def test_rows_are_those_of_the_shards_in_total_order(toy, tmp_path):
    table = toy.publish_table(tmp_path)
    rows = read_pairs(table).to_pylist()
    assert [key(row) for row in rows] == sorted(key(row) for row in toy.pair_rows())
    by_id = {row["pair_id"]: row for row in rows}
    for row in toy.pair_rows():
        found = by_id[row["pair_id"]]
        assert found["mentions"] == row["mentions"]
        assert found["mask_counts"] == row.get("mask_counts")
        assert found["image_phash"] == row["image_phash"]
        assert found["drop_reason"] == row["drop_reason"]


def test_the_file_has_exactly_the_schema_and_where_it_lies(toy, tmp_path):
    table = toy.publish_table(tmp_path, dataset="my set/1", round=3)
    (path,) = table_files(table)
    assert path.relative_to(table.payload()).parts == (
        "dataset=my%20set%2F1",
        "round=3",
        "part-00000.parquet",
    )
    found = pq.ParquetFile(path).schema_arrow
    assert found.equals(PAIRS)
    assert found.metadata == PAIRS.metadata
    group = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert group.compression == "ZSTD"
    assert set(read_pairs(table)["round"].to_pylist()) == {3}


def test_stats_count_rows_nouns_and_reasons(toy, tmp_path):
    rows = toy.pair_rows()
    stats = toy.publish_table(tmp_path).stats
    assert stats["rows"] == len(rows)
    assert stats["kept"] == sum(row["kept"] for row in rows)
    assert stats["nouns"] == len({row["noun"] for row in rows})
    assert stats["kept_nouns"] == len({row["noun"] for row in rows if row["kept"]})
    assert stats["dropped"] == Counter(row["drop_reason"] for row in rows if not row["kept"])
    assert set(stats["dropped"]) == {"low_similarity", "no_proposal", "image_dropped"}


def test_two_runs_and_other_shards_leave_the_same_bytes(toy, tmp_path):
    rows = toy.pair_rows()
    digests = set()
    for index, shards in enumerate((1, 2, 5)):
        random.Random(index).shuffle(rows)
        (path,) = table_files(toy.publish_table(tmp_path / str(index), rows, shards=shards))
        digests.add(file_sha256(path))
    assert len(digests) == 1


def test_a_row_group_holds_what_duckdb_hands_out(toy, tmp_path):
    base = {"source": "mined", "dataset": "toy", "round": 0, "kept": True, "mask_counts": b"f1o0"}
    rows = [
        {**base, "pair_id": f"{i:016x}", "image_id": i, "noun": f"noun {i % 7}"}
        for i in range(130_000)
    ]
    (path,) = table_files(toy.publish_table(tmp_path, rows))
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows for i in range(2)] == [122_880, 7_120]


def test_the_path_does_not_overrule_the_columns(toy, tmp_path):
    (path,) = table_files(toy.publish_table(tmp_path))
    kinds = dict(
        duckdb.sql(
            f"select column_name, column_type from (describe select round, dataset from"
            f" read_parquet('{path}', hive_partitioning = false))"
        ).fetchall()
    )
    assert kinds == {"round": "INTEGER", "dataset": "VARCHAR"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[3].update(pair_id=rows[0]["pair_id"]), "2 pairs have the same pair_id"),
        (
            lambda rows: rows[1].update(noun=rows[0]["noun"], image_id=rows[0]["image_id"]),
            "2 pairs have the same image_id, noun",
        ),
        (lambda rows: rows[5].update(dataset="other"), "belongs to source=mined dataset=other"),
        (lambda rows: rows[5].update(round=None), "round=None"),
    ],
)
def test_rows_that_do_not_belong_are_refused(toy, tmp_path, change, message):
    rows = toy.pair_rows()
    change(rows)
    with pytest.raises(OvsegError, match=message):
        toy.publish_table(tmp_path, rows)
    assert not list((tmp_path / "tables").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.remove(s.get_field_index("head")), "column head should be string but is no"),
        (lambda s: s.append(pa.field("clock", pa.string())), "column clock is not in the pair"),
        (
            lambda s: s.set(s.get_field_index("round"), pa.field("round", pa.int64())),
            "column round should be int32 but is int64",
        ),
    ],
)
def test_a_shard_of_another_version_is_refused(toy, tmp_path, change, message):
    rows = [{k: v for k, v in row.items() if k != "head"} for row in toy.pair_rows()]
    pairs = toy.publish_rows(tmp_path, "pairs", [rows], change(PAIRS))
    with pytest.raises(OvsegError, match=message):
        run_stage(PAIR_TABLE, TableConfig(dataset="toy"), {"pairs": pairs}, tmp_path)


def test_a_torn_shard_is_an_error_of_one_line(toy, tmp_path):
    pairs = toy.publish_rows(tmp_path, "pairs", [toy.pair_rows()], PAIRS)
    path = pairs.payload()
    data = bytearray(path.read_bytes())
    data[200:900] = bytes(700)  # columns torn, footer whole
    path.write_bytes(data)
    with pytest.raises(OvsegError, match="run the pairing again") as caught:
        run_stage(PAIR_TABLE, TableConfig(dataset="toy"), {"pairs": pairs}, tmp_path)
    assert "\n" not in str(caught.value)


grains = st.lists(
    st.tuples(st.sampled_from(["dog", "Dog", "café", "", "zebra 🦓"]), st.integers(-5, 2**40)),
    unique=True,
    max_size=30,
)


@settings(max_examples=20, deadline=None)
@given(grains=grains, shards=st.integers(1, 4))
def test_compaction_keeps_every_row_and_orders_them(tmp_path_factory, toy, grains, shards):
    rows = [
        {
            "pair_id": digest_json([noun, image])[:16],
            "source": "mined",
            "dataset": "toy",
            "round": 0,
            "image_id": image,
            "noun": noun,
            "clip_similarity": image % 7 / 8,
            "kept": image % 2 == 0,
            "drop_reason": None if image % 2 == 0 else "low_similarity",
        }
        for noun, image in grains
    ]
    root = tmp_path_factory.mktemp("table")
    found = read_pairs(toy.publish_table(root, rows, shards=shards)).to_pylist()
    given = [{name: row.get(name) for name in PAIRS.names} for row in rows]
    # Text is ordered by its UTF-8 bytes, as Python orders by code points: the same.
    assert found == sorted(given, key=key)
