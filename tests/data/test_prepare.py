"""Prepared folders: every published layout, going on, checking, leaving the originals alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from published_sources import SOURCES, index_map, picture

from ovseg.data.benchmarks import prepare as module
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.check import check_prepared, check_source
from ovseg.data.benchmarks.prepare import prepare
from ovseg.data.benchmarks.published import PUBLISHED
from ovseg.files.digests import file_sha256


def state(folder: Path) -> dict[str, tuple]:
    """Digest and time of every file and folder below one."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mtime_ns,
            file_sha256(path) if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


def named(benchmark, sample) -> list[list[str | None]]:
    return [
        [None if value == benchmark.ignore_index else benchmark.classes[value] for value in row]
        for row in benchmark.labels(sample).tolist()
    ]


@pytest.mark.parametrize("name", PUBLISHED)
def test_prepared_as_published(name, tmp_path):
    source, out = tmp_path / "source", tmp_path / "data"
    expected = SOURCES[name](source)
    before = state(source)
    done = prepare(name, root=source, out=out)
    assert state(source) == before, "the originals are never written to"
    assert done.folder == out / name and done.made == len(done.rows)

    benchmark = load_benchmark(name, out / name)
    assert benchmark.classes == tuple(each.name for each in PUBLISHED[name].classes)
    assert benchmark.prompts == PUBLISHED[name].prompts
    assert benchmark.ignore_index == (65535 if len(benchmark.classes) > 254 else 255)
    assert {s.image.stem: named(benchmark, s) for s in benchmark.samples} == expected
    for sample in benchmark.samples:
        with Image.open(sample.label) as label:
            assert label.mode == ("I;16" if benchmark.ignore_index == 65535 else "L")

    record = json.loads((out / name / "prepared.json").read_text())
    assert record["images"] == len(expected) and record["published_names_only"]
    flat = [name for rows in expected.values() for row in rows for name in row if name]
    assert {k: n for k, n in record["class_pixels"].items() if n} == {
        name: flat.count(name) for name in flat
    }
    dropped = [row for row in done.rows if not row["kept"]]
    assert [row["drop_reason"] for row in dropped] == (
        ["no pixel of a class"] if name == "voc-20" else []
    )
    assert sum(record["dropped"].values()) == len(dropped)
    assert f"the published set has {PUBLISHED[name].images[0]}" in done.notes[0]
    assert pq.read_table(out / name / "samples.parquet").to_pylist() == done.rows

    # again: nothing is made, nothing is touched; elsewhere: the same bytes
    images, labels = state(out / name / "images"), state(out / name / "labels")
    assert prepare(name, root=source, out=out).made == len(dropped)
    assert (state(out / name / "images"), state(out / name / "labels")) == (images, labels)
    prepare(name, root=source, out=tmp_path / "elsewhere", workers=1)
    for file in ("samples.parquet", "prepared.json", "classes.txt"):
        assert (tmp_path / "elsewhere" / name / file).read_bytes() == (
            out / name / file
        ).read_bytes()

    # the owner's folder itself will do as well
    home = source / PUBLISHED[name].homes[0]
    assert {problem.what for problem in check_source(name, home).problems} == {
        *done.notes,
        *(["no pixel of a class"] if name == "voc-20" else []),
    }
    assert check_prepared(name, out / name).problems == []


def run(ade: Path, **options):
    return prepare("ade20k-150", root=ade / "source", out=ade / "data", workers=1, **options)


def test_a_killed_run_goes_on(ade, monkeypatch):
    home = ade / "source" / "ADEChallengeData2016"
    for number in range(3, 9):
        picture(home / "images" / "validation" / f"ADE_val_{number:08}.jpg", 2, 2)
        index_map(home / "annotations" / "validation" / f"ADE_val_{number:08}.png", [[1, 2]] * 2)
    monkeypatch.setattr(module, "BLOCK", 2)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(ade, progress=stop)
    folder = ade / "data" / "ade20k-150"
    assert not (folder / "prepared.json").exists()
    assert [p.what for p in check_prepared("ade20k-150", folder).problems] == [
        "not finished: run ovseg prepare again to resume"
    ]
    (folder / "labels" / "ADE_val_00000007.png.tmp-0123").write_bytes(b"half")
    made = state(folder / "labels")
    told = []
    done = run(ade, progress=lambda *each: told.append(each))
    assert done.made == 4, "two whole blocks of two were recorded"
    assert told[0] == (4, 8) and told[-1] == (8, 8)
    after = state(folder / "labels")
    assert len(after) == 8 and not any("tmp" in name for name in after)
    for number in range(1, 5):
        name = f"ADE_val_{number:08}.png"
        assert after[name] == made[name]
    assert not (folder / ".parts").exists()
    again = prepare("ade20k-150", root=ade / "source", out=ade / "whole")
    assert again.rows == done.rows
    assert (folder / "samples.parquet").read_bytes() == (
        ade / "whole" / "ade20k-150" / "samples.parquet"
    ).read_bytes()


def test_a_damaged_result_is_made_again_and_a_changed_source_is_prepared_anew(ade):
    run(ade)
    label = ade / "data" / "ade20k-150" / "labels" / "ADE_val_00000002.png"
    whole = label.read_bytes()
    label.write_bytes(b"damaged")
    assert run(ade).made == 1 and label.read_bytes() == whole
    label.unlink()
    assert run(ade).made == 1 and label.read_bytes() == whole
    (label.parent.parent / "samples.parquet").write_bytes(b"damaged")
    assert run(ade).made == 2
    source = ade / "source" / "ADEChallengeData2016" / "annotations" / "validation"
    index_map(source / label.name, [[5, 5], [5, 5], [5, 5]])
    assert run(ade).made == 2
    assert load_benchmark("x", label.parent.parent).classes[4] == "tree"
    assert np.unique(np.asarray(Image.open(label))).tolist() == [4]
    (source / label.name).unlink()
    done = run(ade)
    assert done.dropped == {"no label map": 1} and not label.exists()
    assert not (label.parent.parent / "images" / "ADE_val_00000002.jpg").is_symlink()


def test_images_are_linked_or_copied_and_a_link_reads_as_the_original(ade):
    run(ade)
    folder = ade / "data" / "ade20k-150"
    (image,) = (folder / "images").glob("*1.jpg")
    original = ade / "source/ADEChallengeData2016/images/validation" / image.name
    assert image.is_symlink() and image.resolve() == original.resolve()
    linked = load_benchmark("ade20k-150", folder).contents()
    run(ade, copy=True)
    assert not image.is_symlink() and image.read_bytes() == original.read_bytes()
    assert load_benchmark("ade20k-150", folder).contents() == linked
    shutil.rmtree(ade / "source")
    assert check_prepared("ade20k-150", folder).problems == []


def test_without_links_copying_is_advised(ade, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(module.OvsegError, match=r"cannot be a link .* use --copy"):
        run(ade)
    assert run(ade, copy=True).made == 2


def test_synonyms_become_prompts_on_request(ade):
    run(ade, synonyms=True)
    folder = ade / "data" / "ade20k-150"
    benchmark = load_benchmark("ade20k-150", folder)
    road = benchmark.classes.index("road, route")
    texts = [text for text, index in benchmark.prompts if index == road]
    assert texts == ["road, route", "road", "route"]
    assert not json.loads((folder / "prepared.json").read_text())["published_names_only"]
    run(ade)
    assert load_benchmark("ade20k-150", folder).prompts == ()


def test_what_check_finds_in_a_prepared_folder(ade):
    run(ade, copy=True)
    folder = ade / "data" / "ade20k-150"
    images, labels = folder / "images", folder / "labels"
    (images / "ADE_val_00000001.jpg").write_bytes(b"other")
    (labels / "ADE_val_00000002.png").unlink()
    picture(images / "ADE_val_00000009.jpg", 2, 2)
    names = (folder / "classes.txt").read_text().splitlines()
    (folder / "classes.txt").write_text("\n".join(["walls", *names[1:]]) + "\n")
    found = {Path(p.file).name: p.what for p in check_prepared("ade20k-150", folder).problems}
    assert found == {
        "classes.txt": "line 1 is 'walls', published is 'wall'",
        "ADE_val_00000001.jpg": "changed since it was prepared",
        "ADE_val_00000002.png": "missing",
        "ADE_val_00000009.jpg": "not made by ovseg prepare",
        "ADE_val_00000009.png": "no label map",
    }
    (folder / "classes.txt").write_text("wall\n")
    found = check_prepared("ade20k-150", folder).problems
    assert found[0].what == "1 classes, ade20k-150 has 150"
    (folder / "classes.txt").unlink()
    assert "cannot be read" in check_prepared("ade20k-150", folder).problems[0].what
    run(ade)
    shutil.rmtree(ade / "source")
    found = [problem.what for problem in check_prepared("ade20k-150", folder).problems]
    assert found == ["a link to a file that is gone"] * 2


def test_your_own_folder_of_road_scenes(tmp_path):
    """As CamVid: PNGs of indices, some with a palette, an index for void among them."""
    folder = tmp_path / "camvid"
    classes = ["sky", "building", "column pole", "road", "sidewalk", "tree", "sign symbol"]
    picture(folder / "images" / "0001TP_006690.png", 3, 4)
    picture(folder / "images" / "0001TP_006720.png", 3, 4)
    index_map(folder / "labels" / "0001TP_006690.png", [[0, 1, 2, 3], [4, 5, 6, 255], [3] * 4])
    # colours of a palette stand for nothing: the indices count
    index_map(folder / "labels" / "0001TP_006720.png", [[3] * 4, [5] * 4, [255] * 4], palette=True)
    (folder / "classes.txt").write_text("\n".join(classes) + "\n")
    (folder / "images" / "._0001TP_006690.png").write_bytes(b"what macOS leaves beside a copy")
    benchmark = load_benchmark("camvid", folder)
    assert len(benchmark.samples) == 2
    assert named(benchmark, benchmark.samples[0]) == [
        ["sky", "building", "column pole", "road"],
        ["sidewalk", "tree", "sign symbol", None],
        ["road"] * 4,
    ]
    assert named(benchmark, benchmark.samples[1]) == [["road"] * 4, ["tree"] * 4, [None] * 4]
    assert check_prepared("camvid", folder).problems == []
    index_map(folder / "labels" / "0001TP_006720.png", [[3] * 4])
    picture(folder / "images" / "extra.png", 2, 2)
    found = {Path(p.file).name: p.what for p in check_prepared("camvid", folder).problems}
    assert found == {
        "0001TP_006720.png": "label map of another size than the image",
        "extra.png": "no label map",
    }


def test_prepare_on_the_console(ade, monkeypatch):
    from typer.testing import CliRunner

    from ovseg.cli.app import app

    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()

    def call(*words):
        return runner.invoke(app, ["prepare", *words])

    listed = call()
    assert listed.exit_code == 0 and all(name in listed.output for name in PUBLISHED)
    paths = ["--root", str(ade / "source"), "--out", str(ade / "data")]
    done = call("ade20k-150", *paths)
    assert done.exit_code == 0, done.output
    assert "note: 2 images, the published set has 2000" in done.output
    assert "ade20k-150: 2 images" in done.output
    assert (
        "2 images, 2 of them existed already; next: ovseg prepare --check ade20k-150"
        in call("ade20k-150", *paths).output
    )
    checked = call("--check", "ade20k-150", "--out", str(ade / "data"))
    assert checked.exit_code == 0 and "nothing is missing or wrong" in checked.output
    labels = ade / "source/ADEChallengeData2016/annotations/validation"
    (labels / "ADE_val_00000001.png").unlink()
    checked = call("--check", "ade20k-150", *paths)
    assert "no label map" in checked.output and "2000" in checked.output
    assert "2 problems found" in str(checked.exception)
    again = call("ade20k-150", *paths)
    assert again.exit_code == 0 and "no label map" in again.output and "1 images" in again.output
    for words, message in (
        (["ade20k-150"], "give --root"),
        (["--check", "ade20k-150"], "give --root, --out, or both"),
        (["--root", "here"], "which benchmark"),
        (["lvis", *paths], "unknown name 'lvis'; choose one of ade20k-150"),
        (["ade20k-150", "--root", "nowhere", "--out", "data"], "is not a folder"),
    ):
        refused = call(*words)
        assert refused.exit_code != 0 and message in str(refused.exception)
        assert "\n" not in str(refused.exception)
