"""Compaction: bounded files in one total order, the same bytes for any threads and shards."""

import base64
import errno
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.files.digests import file_sha256
from ovseg.files.parquet_files import write_parquet
from ovseg.mining.pairs import compaction
from ovseg.mining.pairs.compaction import (
    ROW_GROUP,
    DuplicateGrainError,
    RangeStart,
    compact,
    connection,
    find_cuts,
    noun_counts,
)
from ovseg.mining.pairs.sql import columns, literal, scan
from ovseg.stages.schema import PAIRS, rows_to_table


def pair(noun, image, **more):
    return {
        "pair_id": f"{abs(hash((noun, image))):016x}"[:16],
        "source": "mined",
        "dataset": "toy",
        "round": 0,
        "image_id": image,
        "noun": noun,
        "mentions": [{"caption_id": image, "surface": noun, "char_start": 0, "char_end": 3}],
        "mask_size": [8, 10] if image % 3 else None,
        "mask_counts": b"f1o0" * (image % 5) if image % 3 else None,
        "clip_similarity": image / 7,
        "kept": image % 2 == 0,
        "drop_reason": None if image % 2 == 0 else "low_similarity",
        **more,
    }


def write_shards(folder, rows, cuts=(0.3, 0.8)):
    folder.mkdir(parents=True)
    places = [0, *(round(cut * len(rows)) for cut in cuts), len(rows)]
    paths = []
    for number, (first, last) in enumerate(pairwise(places)):
        paths.append(folder / f"shard-{number:05d}.parquet")
        write_parquet(rows_to_table(rows[first:last], PAIRS), paths[-1])
    return paths


def compacted(folder, shards, *, threads=2, part_rows=compaction.PART_ROWS):
    folder.mkdir(parents=True)
    parts = compact(shards, folder, spill=folder / "spill", threads=threads, part_rows=part_rows)
    assert parts == sorted(folder.glob("part-*.parquet"))
    return parts


def one_thread_one_file(shards, path):
    """The straightforward way: the engine sorts everything in one thread and writes one file."""
    arrow = base64.b64encode(PAIRS.serialize().to_pybytes()).decode()
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("set disabled_optimizers = 'statistics_propagation'")
        con.execute(
            f"copy (select {columns(PAIRS)} from {scan(shards)} order by noun, image_id, pair_id)"
            f" to {literal(str(path))} (format parquet, compression zstd,"
            f" row_group_size {ROW_GROUP}, kv_metadata {{'ARROW:schema': {literal(arrow)}}})"
        )


def order(row):
    return row["noun"] is None, row["noun"] or "", row["image_id"]


nouns = st.sampled_from(["dog", "Dog", "café", "", "zebra 🦓", "it's", "picket fence", None])
grains = st.lists(st.tuples(nouns, st.integers(-5, 40)), unique=True, max_size=80)


@settings(max_examples=25, deadline=None)
@given(grains=grains, part_rows=st.integers(1, 30), cuts=st.lists(st.floats(0, 1), max_size=3))
def test_files_follow_each_other_whatever_the_shards_and_threads(
    tmp_path_factory, grains, part_rows, cuts
):
    folder = tmp_path_factory.mktemp("compaction")
    rows = [pair(noun, image) for noun, image in grains]
    one = write_shards(folder / "one", rows)
    other = write_shards(folder / "other", rows[::-1], sorted(cuts))
    parts = compacted(folder / "a", one, threads=1, part_rows=part_rows)
    again = compacted(folder / "b", other, threads=3, part_rows=part_rows)
    assert [file_sha256(path) for path in parts] == [file_sha256(path) for path in again]
    tables = [pq.ParquetFile(path).read() for path in parts]
    found = pa.concat_tables(tables)
    assert found.schema == PAIRS
    assert found == rows_to_table(sorted(rows, key=order), PAIRS)
    counts = {noun: [each for each, _ in grains].count(noun) for noun, _ in grains}
    for number, table in enumerate(tables):
        assert table.num_rows < 2 * part_rows or table.num_rows == part_rows
        assert (
            table.num_rows >= part_rows
            or number in (len(tables) - 1, 0)
            or any(counts[noun] > part_rows for noun in tables[number + 1]["noun"].to_pylist())
        )
    for noun, count in counts.items():
        if count <= part_rows:
            assert sum(noun in table["noun"].to_pylist() for table in tables) == 1


def test_few_rows_are_one_file_with_the_bytes_of_one_thread(tmp_path):
    rng = np.random.default_rng(0)
    rows = [pair(f"noun {image % 7}", int(image)) for image in rng.permutation(130_000)]
    shards = write_shards(tmp_path / "shards", rows)
    (part,) = compacted(tmp_path / "table", shards)
    one_thread_one_file(shards, tmp_path / "expected.parquet")
    assert file_sha256(part) == file_sha256(tmp_path / "expected.parquet")


def test_files_of_ranges_have_the_bytes_of_one_thread(tmp_path):
    rows = [pair(f"noun {image % 9}", image) for image in range(900)]
    shards = write_shards(tmp_path / "shards", rows)
    parts = compacted(tmp_path / "table", shards, part_rows=250)
    assert [pq.read_metadata(part).num_rows for part in parts] == [300, 300, 300]
    for number, part in enumerate(parts):
        own = [row for row in rows if int(row["noun"][5:]) // 3 == number]
        source = write_shards(tmp_path / f"shards {number}", own)
        one_thread_one_file(source, tmp_path / "expected.parquet")
        assert file_sha256(part) == file_sha256(tmp_path / "expected.parquet")


def test_a_noun_of_many_rows_is_cut_by_image(tmp_path):
    rows = [pair("cat", image) for image in range(5)]
    rows += [pair("dog", image) for image in range(25)] + [pair("eel", 1)]
    shards = write_shards(tmp_path / "shards", rows)
    with connection() as con:
        counts = noun_counts(con, shards)
        cuts = find_cuts(con, shards, counts, part_rows=10)
    assert counts == [("cat", 5, 3), ("dog", 25, 13), ("eel", 1, 0)]
    assert cuts == [RangeStart("dog", 5), RangeStart("dog", 15), RangeStart("eel")]


def test_the_same_image_and_noun_twice_is_an_error(tmp_path):
    rows = [pair("cat", image) for image in range(40)]
    rows.append({**rows[7], "pair_id": "f" * 16})
    shards = write_shards(tmp_path / "shards", rows)
    for part_rows in (10, 100):
        with pytest.raises(DuplicateGrainError):
            compacted(tmp_path / str(part_rows), shards, part_rows=part_rows)


def test_a_full_disk_is_the_systems_error(tmp_path, monkeypatch):
    shards = write_shards(tmp_path / "shards", [pair("cat", image) for image in range(40)])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(compaction, "_listed", full)
    with pytest.raises(OSError, match="No space left") as caught:
        compacted(tmp_path / "table", shards, part_rows=10)
    assert caught.value.errno == errno.ENOSPC
