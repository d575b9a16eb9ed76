"""The contract of a stage: computed once, found again, recomputed where damaged, same bytes."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from pydantic import Field

from ovseg.config.base import Config, execution
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, syntax_digest
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.run import finish, run_shard, run_stage, stage_folder
from ovseg.stages.stage import Output, Stage, merge_stats


class SquaresConfig(Config):
    numbers: tuple[int, ...] = (3, 1, 4, 1, 5, 9, 2)
    power: int = 2
    max_bad_fraction: float = Field(0.5)
    batch_size: int = execution(8, "does not change the result")


class Squares(Stage[SquaresConfig]):
    """Powers of numbers, three numbers a shard; negative numbers are bad."""

    name = "squares"

    def __init__(self) -> None:
        self.computed: list[int] = []
        self.weight = "w0"

    def plan(self, config: SquaresConfig, inputs: Any) -> ShardPlan:
        return ShardPlan.blocks(config.numbers, 3)

    def weights(self, config: SquaresConfig, inputs: Any) -> dict[str, str]:
        return {"model": self.weight}

    def write(self, config: SquaresConfig, inputs, target, *, shard, progress) -> Output:
        self.computed.append(shard)
        numbers = config.numbers[self.plan(config, inputs).span(shard)]
        write_parquet(pa.table({"power": [n**config.power for n in numbers]}), target)
        progress(len(numbers))
        bad = [n for n in numbers if n < 0]
        first = f"{bad[0]}: negative" if bad else None
        stats = {"n": len(numbers), "bad": len(bad), "first_bad": first, "kinds": {"all": 1}}
        return Output(rows=len(numbers), stats=stats)


class Total(Stage[SquaresConfig]):
    """The sum of its parent's powers, as a folder."""

    name = "total"
    suffix: ClassVar[str] = ""

    def plan(self, config: SquaresConfig, inputs: Any) -> ShardPlan:
        return ShardPlan.single(inputs["squares"].plan.ids_digest)

    def write(self, config: SquaresConfig, inputs, target, *, shard, progress) -> Output:
        target.mkdir()
        total = sum(inputs["squares"].table()["power"].to_pylist())
        (target / "total.txt").write_text(str(total))
        return Output(rows=1, stats={"total": total})


def test_a_stage_is_computed_once(tmp_path: Path):
    stage, seen = Squares(), []
    manifest = run_stage(stage, SquaresConfig(), {}, tmp_path, progress=seen.append)
    assert stage.computed == [0, 1, 2] and sum(seen) == 7
    assert manifest.table()["power"].to_pylist() == [9, 1, 16, 1, 25, 81, 4]
    assert manifest.rows == 7
    assert manifest.stats == {"n": 7, "bad": 0, "kinds": {"all": 3}, "first_bad": None}
    assert run_stage(stage, SquaresConfig(), {}, tmp_path) == manifest
    assert stage.computed == [0, 1, 2]
    names = sorted(path.name for path in manifest.folder.iterdir())
    assert names == sorted(
        [f"shard-0000{n}{suffix}" for n in range(3) for suffix in (".json", ".parquet")]
        + ["manifest.json", "run.json"]
    )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def resealed(path: Path, /, **changes: Any) -> None:
    """A record or manifest that a machine wrote, but not this one."""
    data = {**json.loads(path.read_text()), **changes}
    del data["seal"]
    path.write_text(json.dumps({**data, "seal": digest_json(data)}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "shard-00001.parquet"),
        lambda folder: (folder / "shard-00001.parquet").unlink(),
        lambda folder: (folder / "shard-00001.parquet").write_bytes(b""),
        lambda folder: (folder / "shard-00001.json").unlink(),
        lambda folder: (folder / "shard-00001.json").write_text('{"index": 1, "pa'),
        lambda folder: (folder / "shard-00001.json").write_text("[]"),
        lambda folder: edit(folder / "shard-00001.json", '"rows": 3', '"rows": 2'),
        lambda folder: edit(folder / "shard-00001.json", '"bad": 0', '"bad": 1'),
        lambda folder: edit(folder / "shard-00001.json", '"rows"', '"raws"'),
        lambda folder: edit(folder / "shard-00001.json", "shard-00001.p", "shard-00000.p"),
        lambda folder: resealed(folder / "shard-00001.json", path="../mine.parquet"),
        lambda folder: resealed(folder / "shard-00001.json", path="shard-00000.parquet"),
        lambda folder: resealed(folder / "shard-00001.json", index=2),
        lambda folder: resealed(folder / "shard-00001.json", rows=-1),
    ],
)
def test_a_damaged_shard_alone_is_recomputed(tmp_path: Path, damage):
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    damage(whole.folder)
    stage = Squares()
    mended = run_stage(stage, SquaresConfig(), {}, tmp_path)
    assert stage.computed == [1]
    assert mended == whole
    assert mended.content_digest == whole.content_digest


def test_a_lost_manifest_costs_no_shard(tmp_path: Path):
    whole = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    text = (whole.folder / "manifest.json").read_bytes()
    for content in (None, b"{"):
        (whole.folder / "manifest.json").unlink()
        if content:
            (whole.folder / "manifest.json").write_bytes(content)
        stage = Squares()
        run_stage(stage, SquaresConfig(), {}, tmp_path)
        assert stage.computed == []
        assert (whole.folder / "manifest.json").read_bytes() == text


def test_the_manifest_comes_last(tmp_path: Path):
    """Stopped at any shard there is no manifest, and the next run goes on from there."""

    class Stopped(Squares):
        def write(self, *args, shard, **kwargs) -> Output:
            if shard == 2:
                raise KeyboardInterrupt
            return super().write(*args, shard=shard, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        run_stage(Stopped(), SquaresConfig(), {}, tmp_path)
    folder, plan = stage_folder(Squares(), SquaresConfig(), {}, tmp_path)
    assert not (folder / "manifest.json").exists()
    with pytest.raises(OvsegError, match=r"shards \[2\] are missing"):
        finish(Squares(), SquaresConfig(), {}, folder, plan)
    stage = Squares()
    run_stage(stage, SquaresConfig(), {}, tmp_path)
    assert stage.computed == [2]


def test_a_shard_that_fails_halfway_leaves_nothing(tmp_path: Path):
    class Torn(Squares):
        def write(self, config, inputs, target, *, shard, progress) -> Output:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    folder, _ = stage_folder(Torn(), SquaresConfig(), {}, tmp_path)
    with pytest.raises(OvsegError, match="no space left"):
        run_shard(Torn(), SquaresConfig(), {}, folder, shard=0)
    assert list(folder.iterdir()) == []


def test_digests_cover_what_the_result_depends_on(tmp_path: Path, monkeypatch):
    config = SquaresConfig()

    def name(stage: Stage, config: SquaresConfig, inputs: dict[str, Manifest]) -> str:
        return stage_folder(stage, config, inputs, tmp_path)[0].name

    base = name(Squares(), config, {})
    other_weights = Squares()
    other_weights.weight = "w1"
    names = {
        base,
        name(Squares(), SquaresConfig(power=3), {}),
        name(Squares(), SquaresConfig(numbers=(1, 2, 3)), {}),
        name(other_weights, config, {}),
    }
    monkeypatch.setattr(Squares, "schema_version", 2)
    names.add(name(Squares(), config, {}))
    monkeypatch.setattr("ovseg.files.digests.module_digest", lambda module: "edited")
    names.add(name(Squares(), config, {}))
    assert len(names) == 6


def test_execution_fields_change_neither_digest_nor_manifest(tmp_path: Path):
    one = run_stage(Squares(), SquaresConfig(batch_size=1), {}, tmp_path / "one")
    other = run_stage(Squares(), SquaresConfig(batch_size=2), {}, tmp_path / "two")
    assert one.folder.name == other.folder.name
    assert "batch_size" not in one.config
    texts = [(m.folder / "manifest.json").read_bytes() for m in (one, other)]
    assert texts[0] == texts[1]
    run = json.loads((other.folder / "run.json").read_text())
    assert run["execution"] == {"batch_size": 2} and set(run["seconds"]) == {"0", "1", "2"}


def test_two_runs_are_equal_to_the_byte(tmp_path: Path):
    roots = [tmp_path / "one", tmp_path / "two"]
    files = []
    for root in roots:
        squares = run_stage(Squares(), SquaresConfig(), {}, root)
        run_stage(Total(), SquaresConfig(), {"squares": squares}, root)
        files.append(
            {
                path.relative_to(root): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file() and path.name != "run.json"
            }
        )
    assert files[0] == files[1] and len(files[0]) == 10


def test_children_depend_on_content_not_on_names(tmp_path: Path):
    squares = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    child = Total()
    total = run_stage(child, SquaresConfig(), {"squares": squares}, tmp_path)
    assert (total.payload() / "total.txt").read_text() == "137"
    cubes = run_stage(Squares(), SquaresConfig(power=3), {}, tmp_path)
    names = {
        stage_folder(child, SquaresConfig(), {"squares": parent}, tmp_path)[0].name
        for parent in (squares, cubes)
    }
    assert len(names) == 2
    # ones are ones to any power: another parent, the same content, the same child
    ones = [
        run_stage(Squares(), SquaresConfig(numbers=(1, 1), power=power), {}, tmp_path)
        for power in (2, 3)
    ]
    assert ones[0].folder != ones[1].folder
    names = {
        stage_folder(child, SquaresConfig(), {"squares": parent}, tmp_path)[0].name
        for parent in ones
    }
    assert len(names) == 1


def test_a_folder_payload_is_checked_too(tmp_path: Path):
    squares = run_stage(Squares(), SquaresConfig(), {}, tmp_path)
    total = run_stage(Total(), SquaresConfig(), {"squares": squares}, tmp_path)
    (total.payload() / "stray.txt").touch()
    again = run_stage(Total(), SquaresConfig(), {"squares": squares}, tmp_path)
    assert [path.name for path in again.payload().iterdir()] == ["total.txt"]


def test_too_many_bad_items_stop_the_stage(tmp_path: Path):
    few = SquaresConfig(numbers=(1, 2, -3, 4, 5, 6, 7))
    assert run_stage(Squares(), few, {}, tmp_path).stats["bad"] == 1
    many = SquaresConfig(numbers=(1, 2, -3, -4, -5, 6, -7))
    with pytest.raises(OvsegError) as error:
        run_stage(Squares(), many, {}, tmp_path)
    message = str(error.value)
    assert message == (
        "squares: 4 of 7 items are bad, more than max_bad_fraction=0.5 allows; the first: -3:"
        " negative; fix them, or go on without them: --set max_bad_fraction=0.58"
    )
    assert run_stage(Squares(), many.model_copy(update={"max_bad_fraction": 0.58}), {}, tmp_path)
    folder, _ = stage_folder(Squares(), many, {}, tmp_path)
    assert not (folder / "manifest.json").exists()


def test_mended_input_costs_the_bad_shards_alone(tmp_path: Path):
    """Bad items that were bad for a while (a mount that was gone) are read again."""

    class Flaky(Squares):
        gone: ClassVar[bool] = True

        def write(self, config, inputs, target, *, shard, progress) -> Output:
            output = super().write(config, inputs, target, shard=shard, progress=progress)
            if not self.gone or shard == 1:
                return output
            return Output(rows=output.rows, stats={**output.stats, "bad": output.rows})

    config = SquaresConfig(max_bad_fraction=0.2)
    with pytest.raises(OvsegError, match="4 of 7 items are bad"):
        run_stage(Flaky(), config, {}, tmp_path)
    folder, _ = stage_folder(Flaky(), config, {}, tmp_path)
    assert [path.name for path in folder.glob("*.json")] == ["shard-00001.json"]
    mended = Flaky()
    mended.gone = False
    manifest = run_stage(mended, config, {}, tmp_path)
    assert mended.computed == [0, 2]
    assert manifest.stats["bad"] == 0 and manifest.rows == 7


def test_stats_add_up():
    parts = [
        {"n": 1, "nested": {"a": 1}, "first": None, "flag": True},
        {"n": 2.5, "nested": {"a": 2, "b": 1}, "first": "x", "flag": False},
        {"first": "y"},
    ]
    assert merge_stats(parts) == {
        "n": 3.5,
        "nested": {"a": 3, "b": 1},
        "first": "x",
        "flag": True,
    }
    assert parts[0] == {"n": 1, "nested": {"a": 1}, "first": None, "flag": True}
    assert merge_stats([]) == {}


def test_the_code_digest_ignores_comments_docstrings_and_layout():
    source = 'def f(x):\n    """Doc."""\n    return x + 1  # why\n'
    assert syntax_digest(source) == syntax_digest("def f(x):\n\n    return (x +\n            1)\n")
    assert syntax_digest(source) != syntax_digest("def f(x):\n    return x + 2\n")
    assert syntax_digest('class A:\n    """Doc."""\n') == syntax_digest("class A:\n    pass\n")
    assert syntax_digest('x = "a"\n') != syntax_digest('x = "b"\n')
