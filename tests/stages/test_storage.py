"""Where results live: plans, digests, atomic publishing, manifests."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, file_sha256
from ovseg.files.parquet_files import write_parquet
from ovseg.files.publish import publish, publish_text, temporary_name
from ovseg.stages.manifest import Manifest, ShardPlan


@given(
    st.lists(st.integers(-(2**40), 2**40), unique=True, max_size=60).map(sorted),
    st.integers(1, 20),
    st.integers(1, 12),
)
def test_blocks_cover_every_id_once_in_order(ids: list[int], size: int, at_least: int):
    plan = ShardPlan.blocks(ids, size, at_least=at_least)
    parts = [ids[plan.span(shard)] for shard in range(len(plan))]
    assert [item for part in parts for item in part] == ids
    assert [len(part) for part in parts] == list(plan.counts)
    assert all(0 < len(part) <= size for part in parts)
    assert len(plan) >= min(at_least, len(ids))


def test_plans_of_other_ids_differ():
    one, other = (ShardPlan.blocks(ids, 2) for ids in ([1, 2, 3], [1, 2, 4]))
    assert one.counts == other.counts == (2, 1)
    assert one != other


def test_json_digests_ignore_the_order_of_keys():
    assert digest_json({"a": 1, "b": "ä"}) == digest_json({"b": "ä", "a": 1})
    assert digest_json([1, 2]) != digest_json([2, 1])


def test_a_folder_hashes_names_and_contents(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_text("x")
    assert file_sha256(tmp_path / "one") == file_sha256(tmp_path / "two")
    (tmp_path / "two" / "sub" / "a").rename(tmp_path / "two" / "a")
    assert file_sha256(tmp_path / "one") != file_sha256(tmp_path / "two")


def test_publishing_replaces_files_and_folders(tmp_path: Path):
    publish_text("one", tmp_path / "deep" / "a.txt")
    publish_text("two", tmp_path / "deep" / "a.txt")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_text() == "two"
    for content in ("old", "new"):
        folder = temporary_name(tmp_path / "payload")
        folder.mkdir()
        (folder / content).touch()
        publish(folder, tmp_path / "payload")
    assert [p.name for p in (tmp_path / "payload").iterdir()] == ["new"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch):
    publish_text("old", tmp_path / "a.txt")
    monkeypatch.setattr("ovseg.files.publish._fsync", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish_text("new", tmp_path / "a.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_equal_tables_are_equal_files(tmp_path: Path):
    table = pa.table({"a": list(range(1000)), "b": [f"{n % 7}" for n in range(1000)]})
    for name in ("one", "two"):
        write_parquet(table, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert pq.read_table(tmp_path / "one").equals(table)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"stage": 1}', json.dumps({"a": 1})])
def test_a_manifest_that_is_none_says_what_to_do(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(OvsegError, match="run") as error:
        Manifest.read(tmp_path)
    assert "manifest.json" in str(error.value) and "\n" not in str(error.value)
