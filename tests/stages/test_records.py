"""Records and manifests that are edited, old, or lead out; a root that cannot be written."""

import json
import shutil
from pathlib import Path

import pytest

from ovseg.errors import OvsegError
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.stage import Output
from tests.stages.test_stages import Squares, SquaresConfig, edit, resealed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"n": 7', '"n": 8'),
        ('"power": 2', '"power": 3'),
        ('"rows": 3', '"rows": 4'),
        ('"stage": "squares"', '"stage": "cubes"'),
        ('"weights"', '"weight"'),
    ],
)
def test_an_edited_manifest_is_noticed_and_written_anew(tmp_path: Path, old: str, new: str):
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    path = whole.folder / "manifest.json"
    text = path.read_bytes()
    edit(path, old, new)
    with pytest.raises(OvsegError) as error:
        Manifest.read(whole.folder)
    assert str(error.value) == (
        f"{path} is not a manifest (it was changed since it was written): delete it and run the"
        " stage again"
    )
    stage = Squares()
    assert run_stage(stage, SquaresConfig(), {}, tmp_path) == whole
    assert stage.computed == [] and path.read_bytes() == text


def test_records_and_manifests_of_earlier_versions_still_count(tmp_path: Path):
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    for path in whole.folder.glob("*.json"):
        data = json.loads(path.read_text())
        if data.pop("seal", None) is not None:
            path.write_text(json.dumps(data))
    stage = Squares()
    assert run_stage(stage, SquaresConfig(), {}, tmp_path) == Manifest.read(whole.folder) == whole
    assert stage.computed == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../../mine", "a/../../mine", "", ".", "a\\b"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path: Path, path: str):
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    file = whole.folder / "manifest.json"
    shards = [record.model_dump() for record in whole.shards]
    resealed(file, shards=[shards[0], {**shards[1], "path": path}, shards[2]])
    with pytest.raises(OvsegError, match="leads out of its folder") as error:
        Manifest.read(whole.folder)
    assert str(error.value).startswith(f"{file} is not a manifest (shards.1.path: ")
    assert "\n" not in str(error.value)
    assert run_stage(Squares(), SquaresConfig(), {}, tmp_path) == whole  # as it has no manifest


def test_a_shard_that_is_a_link_out_of_its_folder_is_refused_and_replaced(tmp_path: Path):
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    shard, mine = whole.folder / "shard-00001.parquet", tmp_path / "mine.parquet"
    mine.write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(mine)
    for read in (whole.paths, whole.table, lambda: whole.shard_table(1)):
        with pytest.raises(OvsegError, match=r"shard-00001.parquet leads out of .* to .*mine"):
            read()
    stage = Squares()
    assert run_stage(stage, SquaresConfig(), {}, tmp_path).table()["power"].to_pylist()[3] == 1
    assert stage.computed == [1] and not shard.is_symlink() and mine.is_file()


def test_a_folder_where_a_shard_should_be_is_one_line_and_stays(tmp_path: Path):
    folder, _ = stage_folder(Squares(), SquaresConfig(), {}, tmp_path)
    (folder / "shard-00001.parquet" / "mine").mkdir(parents=True)
    with pytest.raises(OvsegError, match=r"shard-00001.parquet cannot be written: it is a folder"):
        run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    assert (folder / "shard-00001.parquet" / "mine").is_dir()
    (folder / "shard-00001.parquet" / "mine").rmdir()
    (folder / "shard-00001.parquet").rmdir()
    stage = Squares()
    run_stage(stage, SquaresConfig(), {}, tmp_path)
    assert stage.computed == [1, 2]


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "root").write_text("mine")
    with pytest.raises(OvsegError, match=r"root is not a folder; move that file away") as error:
        run_stage(Squares(), SquaresConfig(), {}, tmp_path / "root")
    assert "\n" not in str(error.value)
    assert (tmp_path / "root").read_text() == "mine"


def test_a_root_that_is_removed_meanwhile_is_one_line(tmp_path: Path):
    class Unlucky(Squares):
        def write(self, config, inputs, target, *, shard, progress) -> Output:
            if shard == 1:
                shutil.rmtree(tmp_path / "root")
            return super().write(config, inputs, target, shard=shard, progress=progress)

    with pytest.raises(OvsegError, match="the folder is gone: run again"):
        run_stage(Unlucky(), SquaresConfig(), {}, tmp_path / "root")
    assert run_stage(Squares(), SquaresConfig(), {}, tmp_path / "root").rows == 7


@pytest.mark.parametrize("blocks", range(1, 8))
def test_a_disk_that_fills_up_anywhere_is_one_line_and_the_next_run_goes_on(
    small_disk: Path, tmp_path: Path, blocks: int
):
    """With so much room the shards, the records, `run.json` or the manifest no longer fit."""
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path / "whole")
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(4096 * (16 - blocks)))
    with pytest.raises(OvsegError, match="no space left on device; free some space and run again"):
        run_stage(Squares(), SquaresConfig(), {}, small_disk / "root")
    assert not list((small_disk / "root").rglob("*.tmp-*"))
    assert not list((small_disk / "root").rglob("manifest.json"))
    kept = len(list((small_disk / "root").rglob("shard-*.json")))
    (small_disk / "ballast").unlink()
    stage = Squares()
    again = run_stage(stage, SquaresConfig(), {}, small_disk / "root")
    assert stage.computed == list(range(kept, 3))
    names = [path.name for path in whole.folder.iterdir() if path.name != "run.json"]
    assert len(names) == 7
    assert all(
        (whole.folder / name).read_bytes() == (again.folder / name).read_bytes() for name in names
    )
