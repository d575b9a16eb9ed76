"""Published validation sets made into prepared folders, which `load_benchmark` reads.

    prepare("ade20k-150", root=Path("ADEChallengeData2016"), out=Path("data"))

`data/ade20k-150` then holds `images/` (links to the owner's files, which are never written to),
`labels/` (PNGs of class indices), `classes.txt`, `samples.parquet` with a row for each image, also
for one that was dropped, and `prepared.json`, which comes last. Killed anywhere and started again
it goes on: a row whose files are still as it says is not made again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ovseg.config.registry import chosen
from ovseg.data.benchmarks.label_counts import LabelCounts, doubts
from ovseg.data.benchmarks.label_maps import OtherNumbering
from ovseg.data.benchmarks.layouts import Source, places
from ovseg.data.benchmarks.prepared_image import Maker, Row, publish_file, wrong
from ovseg.data.benchmarks.published import PUBLISHED, Published
from ovseg.data.benchmarks.vocabulary import stored_values
from ovseg.errors import OvsegError
from ovseg.files.digests import code_digest, digest_json, file_sha256
from ovseg.files.publish import discard, publish_text, write_parquet
from ovseg.stages.schema import PREPARED, rows_to_table

Progress = Callable[[int, int], None]
BLOCK = 100
"""Images whose rows are recorded at once: a killed run repeats fewer."""
RECORD, SAMPLES, PARTS, RUN = "prepared.json", "samples.parquet", ".parts", "run.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a prepared folder came to.

    Attributes:
        folder: the prepared folder.
        rows: one an image, as in `samples.parquet`.
        made: how many of them were made by this run; the others were there.
        notes: what is to be said of the source, the number of images first.
        counts: pixels by class.
        doubts: what makes it doubtful that the label maps are numbered as published.
    """

    folder: Path
    rows: list[Row]
    made: int
    notes: tuple[str, ...]
    counts: LabelCounts
    doubts: tuple[str, ...]

    @property
    def dropped(self) -> Counter[str]:
        """How many images were left out, by reason."""
        return Counter(_reasons(self.rows))


def prepare(
    name: str,
    *,
    root: Path,
    out: Path,
    copy: bool = False,
    synonyms: bool = False,
    workers: int = 4,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """Make the prepared folder `out/name` of a published validation set.

    Args:
        name: one of `PUBLISHED`.
        root: the folder its owner's archive was unpacked to, or the one above it.
        out: the folder of prepared benchmarks.
        copy: copy the images; they are linked otherwise.
        synonyms: let the model look for the synonyms of a class, too; not as published.
        workers: threads that read and write images.
        progress: told how many of how many images are done.

    Raises:
        OvsegError: an unknown name, a folder that is not laid out so, one that would be written
            into, no usable image, or no room.
    """
    spec = chosen(PUBLISHED, name, setting="ovseg prepare")
    home, source = spec.open(root)
    folder = out / name
    _check_apart(home, folder)
    texts = _texts(spec, synonyms=synonyms)
    names = [each.name for each in spec.classes]
    values = stored_values(spec.vocabulary)
    plan = digest_json([name, code_digest([__name__]), copy, names, values, texts, places(source)])
    try:
        known = _begun(folder, home, plan)
        maker = Maker(spec=spec, home=home, source=source, folder=folder, copy=copy)
        rows, made = _make(maker, known, workers, progress)
        counts = LabelCounts.of_rows(names, rows)
        doubtful = doubts(counts, values, spec.others, _reasons(rows))
        _finish(maker, name, rows, texts, counts, doubtful)
    except OtherNumbering as error:
        discard(folder)
        raise OvsegError(
            f"{home}: {error}; these label maps are numbered otherwise than {name} is published,"
            f" so that classes would change their names: get the owner's ({', '.join(spec.tree)})"
        ) from error
    except OSError as error:
        raise OvsegError(
            f"{error.filename or folder}: {error.strerror or error}; mend that or choose another"
            " --out, then run it again: what is done is kept"
        ) from error
    return Prepared(
        folder=folder,
        rows=rows,
        made=made,
        notes=remarks(spec, source),
        counts=counts,
        doubts=doubtful,
    )


def _reasons(rows: list[Row]) -> list[str]:
    return [row["drop_reason"] for row in rows if not row["kept"]]


def remarks(spec: Published, source: Source) -> tuple[str, ...]:
    """What is to be said of a source: a wrong number of images, and what its layout notes."""
    found, expected = len(source.pairs), " or ".join(str(n) for n in spec.images)
    wrong = () if found in spec.images else (f"{found} images, the published set has {expected}",)
    return (*wrong, *source.notes)


# --------------------------------------------------------------------------------------
# All images


def _make(
    maker: Maker, known: Mapping[str, Row], workers: int, progress: Progress
) -> tuple[list[Row], int]:
    """The rows of all pairs, and how many of them were not known and are made now."""
    folder, pairs, rows = maker.folder, maker.source.pairs, dict(known)
    for name in ("images", "labels", PARTS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    wanted = [pair for pair in pairs if pair.stem not in known]
    progress(len(rows), len(pairs))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(wanted), BLOCK):
            block = wanted[start : start + BLOCK]
            for row in pool.map(maker, block):
                rows[row["name"]] = dict.fromkeys(PREPARED.names) | row
                progress(len(rows), len(pairs))
            table = rows_to_table((rows[pair.stem] for pair in block), PREPARED)
            _publish_table(table, folder / PARTS / f"{digest_json(block[0].stem)}.parquet")
    return [rows[pair.stem] for pair in pairs], len(wanted)


def _publish_table(table: pa.Table, path: Path) -> None:
    publish_file(path, lambda temporary: write_parquet(table, temporary))


def _begun(folder: Path, home: Path, plan: str) -> dict[str, Row]:
    """Begin or go on: the rows of an earlier run of this plan whose files are as they say.

    What an earlier run of another plan left is removed; a folder that no run made is refused.
    """
    state = folder / RUN
    if folder.exists() and any(folder.iterdir()) and not state.is_file():
        raise OvsegError(f"{folder} holds files that `ovseg prepare` did not make: move it away")
    if state.is_file() and _plan(state) == plan:
        parts = [folder / SAMPLES, *sorted((folder / PARTS).glob("*.parquet"))]
        rows = {row["name"]: row for path in parts for row in recorded(path)}
        return {name: row for name, row in rows.items() if row["kept"] and not wrong(folder, row)}
    for name in (RECORD, SAMPLES, "classes.txt", "prompts.tsv", "images", "labels", PARTS):
        discard(folder / name)
    publish_text(json.dumps({"plan": plan, "source": str(home.resolve())}, indent=2) + "\n", state)
    return {}


def recorded(path: Path) -> list[Row]:
    """The rows of a table of prepared images; none of a file that is not one."""
    if not path.is_file():  # a pipe might never end
        return []
    try:
        table = pq.read_table(path)
        return list(table.to_pylist()) if table.schema.equals(PREPARED) else []
    except (OSError, pa.ArrowException, UnicodeDecodeError):  # the last: of names
        return []


def _plan(state: Path) -> str | None:
    try:
        return str(json.loads(state.read_text(encoding="utf-8"))["plan"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finish(
    maker: Maker,
    name: str,
    rows: list[Row],
    prompts: tuple[tuple[str, int], ...],
    counts: LabelCounts,
    doubtful: tuple[str, ...],
) -> None:
    """Publish table, names and, last, the record; remove what no row has."""
    spec, folder = maker.spec, maker.folder
    kept = [row for row in rows if row["kept"]]
    if not kept:
        discard(folder)
        raise OvsegError(
            f"none of the {len(rows)} images in {maker.home} can be used; the first,"
            f" {rows[0]['name']}: {rows[0]['drop_reason']}; `ovseg prepare --check {name} --root"
            f" {maker.home}` lists what is wrong with each"
        )
    if counts.nothing:
        discard(folder)
        raise OvsegError(f"{maker.home}: {counts.nothing} in {name}; are these its label maps?")
    named = {folder / row[kind] for row in kept for kind in ("image", "label")}
    for part in ("images", "labels"):
        for path in (folder / part).iterdir():
            if path not in named:
                discard(path)  # a temporary file of a killed run
    names = [each.name for each in spec.classes]
    _publish_table(rows_to_table(rows, PREPARED), folder / SAMPLES)
    publish_text("".join(f"{text}\n" for text in names), folder / "classes.txt")
    if prompts:
        lines = [f"{names[index]}\t{text}\n" for text, index in prompts]
        publish_text("class_name\tprompt\n" + "".join(lines), folder / "prompts.tsv")
    record = {
        "benchmark": name,
        "images": len(kept),
        "images_published": list(spec.images),
        "dropped": dict(sorted(Counter(_reasons(rows)).items())),
        "ignore_index": spec.ignore_index,
        "class_pixels": dict(zip(names, counts.pixels.tolist())),
        "classes_without_pixels": int((counts.pixels == 0).sum()),
        "published_names_only": prompts == spec.prompts,
        "samples_sha256": file_sha256(folder / SAMPLES),
        "notes": [*remarks(spec, maker.source), *doubtful],
    }
    publish_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", folder / RECORD)
    discard(folder / PARTS)


def _texts(spec: Published, *, synonyms: bool) -> tuple[tuple[str, int], ...]:
    """The texts that stand for the classes where they are not the names alone."""
    if not synonyms:
        return spec.prompts
    own = spec.prompts or tuple((each.name, each.class_id) for each in spec.classes)
    more = ((word, each.class_id) for each in spec.classes for word in each.synonyms)
    return tuple(dict.fromkeys((*own, *more)))


def _check_apart(home: Path, folder: Path) -> None:
    """Refuse to write into the owner's folder, or over it."""
    inside, outside = folder.resolve(), home.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise OvsegError(
            f"{folder} and the source {home} lie in one another: choose another --out; the"
            " source is never written to"
        )
