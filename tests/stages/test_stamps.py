"""Payloads are hashed once: then their size and time are trusted, and `ovseg verify` hashes all."""

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from ovseg.cli import verify
from ovseg.cli.verify import verify_command
from ovseg.config.base import Config
from ovseg.errors import OvsegError
from ovseg.files import digests
from ovseg.files.parquet_files import read_parquet, write_parquet
from ovseg.stages import stamps
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.run import finished, run_stage
from ovseg.stages.stage import Output, Stage


class CountsConfig(Config):
    upto: int = 3000


class Counts(Stage[CountsConfig]):
    """Numbers in two shards."""

    name = "counts"
    writes: ClassVar[list[int]] = []

    def plan(self, config: CountsConfig, inputs: Any) -> ShardPlan:
        return ShardPlan.blocks(range(config.upto), config.upto // 2)

    def write(self, config: CountsConfig, inputs, target, *, shard, progress) -> Output:
        self.writes.append(shard)
        numbers = range(config.upto)[self.plan(config, inputs).span(shard)]
        if self.suffix:
            write_parquet(pa.table({"n": list(numbers)}), target)
        else:
            (target / "deep").mkdir(parents=True)
            (target / "deep" / "numbers.txt").write_text(" ".join(map(str, numbers)))
        return Output(rows=len(numbers))


class CountsInFolders(Counts):
    """The same as folders."""

    name = "counts_in_folders"
    suffix = ""


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    """The payloads that are hashed to see whether they are whole."""
    paths: list[Path] = []

    def counting(path: Path) -> str:
        paths.append(path)
        return digests.file_sha256(path)

    for module in (stamps, verify):
        monkeypatch.setattr(module, "file_sha256", counting)
    return paths


@pytest.fixture(params=[Counts, CountsInFolders], ids=["files", "folders"])
def stage(request) -> Counts:
    stage = request.param()
    stage.writes.clear()
    return stage


def run(stage: Counts, root: Path) -> Manifest:
    return run_stage(stage, CountsConfig(), {}, root)


def test_a_finished_stage_is_not_read_again(stage, hashed, tmp_path: Path):
    whole = run(stage, tmp_path)
    hashed.clear()
    assert run(stage, tmp_path) == whole
    assert hashed == [] and stage.writes == [0, 1]


def test_another_time_is_hashed_once_and_recomputes_nothing(stage, hashed, tmp_path: Path):
    whole = run(stage, tmp_path)
    for path in whole.paths():
        for file in [path, *path.rglob("*")]:
            os.utime(file, ns=(1, 1))
    hashed.clear()
    assert run(stage, tmp_path) == whole and len(hashed) == 2
    assert run(stage, tmp_path) == whole and len(hashed) == 2
    assert stage.writes == [0, 1]


def test_a_copy_is_hashed_once(stage, hashed, tmp_path: Path):
    run(stage, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    hashed.clear()
    for _ in range(2):
        assert run(stage, tmp_path / "b").folder.is_relative_to(tmp_path / "b")
    assert len(hashed) == 2 and stage.writes == [0, 1]


@pytest.mark.parametrize("damage", ["longer", "other", "gone"])
def test_what_changed_is_computed_again(stage, hashed, tmp_path: Path, damage: str):
    whole = run(stage, tmp_path)
    path = whole.paths()[1]
    file = next(p for p in [path, *path.rglob("*")] if p.is_file())
    content = file.read_bytes()
    match damage:
        case "longer":
            file.write_bytes(content + b"x")
        case "other":
            file.write_bytes(bytes(byte ^ 1 for byte in content))
        case "gone":
            file.unlink()
    assert run(stage, tmp_path) == whole and stage.writes == [0, 1, 1]
    assert file.read_bytes() == content


def rot(manifest: Manifest) -> Path:
    """Change a byte of a payload as a failing disk does: its size and time stay."""
    path = manifest.paths()[0]
    file = next(p for p in [path, *path.rglob("*")] if p.is_file())
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[60] ^= 255
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    return file


def test_verify_reads_everything_and_the_next_run_mends_it(stage, hashed, tmp_path, capsys):
    whole = run(stage, tmp_path)
    copy = tmp_path / "mlartifacts" / "0" / "artifacts" / "stages" / "1-counts"
    copy.mkdir(parents=True)
    shutil.copy(whole.folder / "manifest.json", copy)
    verify_command(tmp_path)
    assert capsys.readouterr().out.startswith("2 results of 0.0 MB are as they were written")
    rot(whole)
    assert run(stage, tmp_path) == whole and stage.writes == [0, 1], "trusted"
    with pytest.raises(
        OvsegError, match="1 of 2 results are damaged: run the command that made them"
    ):
        verify_command(tmp_path)
    assert (
        capsys.readouterr().out
        == f"{whole.folder / whole.shards[0].path} is not what was written\n"
    )
    assert run(stage, tmp_path) == whole and stage.writes == [0, 1, 0]
    verify_command(tmp_path)


def test_verify_names_what_is_missing_and_what_cannot_be_read(tmp_path: Path, capsys):
    whole = run(Counts(), tmp_path)
    whole.paths()[0].unlink()
    (tmp_path / "other" / ("0" * 16)).mkdir(parents=True)
    (tmp_path / "other" / ("0" * 16) / "manifest.json").write_text("{")
    with pytest.raises(OvsegError, match="2 of 3 results are damaged"):
        verify_command(tmp_path)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("shard-00000.parquet is missing") and "manifest.json" in second
    (tmp_path / "empty").mkdir()
    with pytest.raises(OvsegError, match="holds no finished results: set --root"):
        verify_command(tmp_path / "empty")
    with pytest.raises(OvsegError, match=r"--root: .*nothing cannot be read"):
        verify_command(tmp_path / "nothing")


def test_rows_of_a_damaged_page_are_never_used(tmp_path: Path):
    whole = run(Counts(), tmp_path)
    path = rot(whole)
    with pytest.raises(OvsegError, match=rf"{path.name} is damaged .*delete it and run again"):
        whole.table()
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "nothing.parquet")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"payloads": 3}', '{"payloads": {"a": []}}'])
def test_a_run_file_of_any_content_only_costs_time(hashed, tmp_path: Path, content: str):
    whole = run(Counts(), tmp_path)
    (whole.folder / "run.json").write_text(content)
    hashed.clear()
    assert run(Counts(), tmp_path) == whole and len(hashed) == 2
    assert finished(whole.folder, whole.plan) == whole and len(hashed) == 2
