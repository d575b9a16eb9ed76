"""Conversion of published validation sets to prepared folders, which `load_benchmark` reads.

    prepare("ade20k-150", root=Path("ADEChallengeData2016"), out=Path("data"))

`data/ade20k-150` then holds `images/` (links to the owner's files, which are never written to),
`labels/` (PNGs of class indices), `classes.txt`, `samples.parquet` with a row for each image,
dropped ones included, and `prepared.json`, which is written last. A killed run resumes: rows whose
files are unchanged are not made again.
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
from ovseg.files.parquet_files import write_parquet
from ovseg.files.publish import discard, publish_text
from ovseg.stages.schema import PREPARED, rows_to_table

Progress = Callable[[int, int], None]
BLOCK = 100
"""Images whose rows are recorded at once; a killed run repeats fewer."""
RECORD, SAMPLES, PARTS, RUN = "prepared.json", "samples.parquet", ".parts", "run.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The result of preparing a folder.

    Attributes:
        folder: the prepared folder.
        rows: one per image, as in `samples.parquet`.
        made: number of rows made by this run; the others existed already.
        notes: remarks on the source, the number of images first.
        counts: pixels by class.
        doubts: reasons to doubt that the label maps have the published numbering.
    """

    folder: Path
    rows: list[Row]
    made: int
    notes: tuple[str, ...]
    counts: LabelCounts
    doubts: tuple[str, ...]

    @property
    def dropped(self) -> Counter[str]:
        """Number of images left out, by reason."""
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
        root: the folder its owner's archive was unpacked to, or its parent.
        out: the folder of prepared benchmarks.
        copy: copy the images instead of linking them.
        synonyms: also give the model the synonyms of a class, unlike the published evaluation.
        workers: threads that read and write images.
        progress: called with the number of finished images and of all images.

    Raises:
        OvsegError: the name is unknown, the source has another layout or overlaps the output, no
            image is usable, or writing fails.
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
            f"{home}: {error}; these label maps do not have the published numbering of {name}, so"
            f" the class names would be wrong: get the owner's ({', '.join(spec.tree)})"
        ) from error
    except OSError as error:
        raise OvsegError(
            f"{error.filename or folder}: {error.strerror or error}; fix that or choose another"
            " --out, then run again: finished images are kept"
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
    """Return remarks on a source: a wrong number of images, and the notes of its layout."""
    count, expected = len(source.pairs), " or ".join(str(n) for n in spec.images)
    wrong = () if count in spec.images else (f"{count} images, the published set has {expected}",)
    return (*wrong, *source.notes)


# --------------------------------------------------------------------------------------
# All images


def _make(
    maker: Maker, known: Mapping[str, Row], workers: int, progress: Progress
) -> tuple[list[Row], int]:
    """Return the rows of all pairs, and the number of rows made now."""
    folder, pairs, rows = maker.folder, maker.source.pairs, dict(known)
    for name in ("images", "labels", PARTS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    missing = [pair for pair in pairs if pair.stem not in known]
    progress(len(rows), len(pairs))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            for row in pool.map(maker, block):
                rows[row["name"]] = dict.fromkeys(PREPARED.names) | row
                progress(len(rows), len(pairs))
            table = rows_to_table((rows[pair.stem] for pair in block), PREPARED)
            _publish_table(table, folder / PARTS / f"{digest_json(block[0].stem)}.parquet")
    return [rows[pair.stem] for pair in pairs], len(missing)


def _publish_table(table: pa.Table, path: Path) -> None:
    publish_file(path, lambda temporary: write_parquet(table, temporary))


def _begun(folder: Path, home: Path, plan: str) -> dict[str, Row]:
    """Start or resume: return the rows of an earlier run of this plan whose files are unchanged.

    Leftovers of another plan are removed; a folder with other files is rejected.
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
    """Read the rows of a table of prepared images; none if the file is not such a table."""
    if not path.is_file():  # a pipe might never end
        return []
    try:
        table = pq.read_table(path)
        return list(table.to_pylist()) if table.schema.equals(PREPARED) else []
    except (OSError, pa.ArrowException, UnicodeDecodeError):  # the last: column names
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
    """Remove files without a row, then publish the table, the names and, last, the record."""
    spec, folder = maker.spec, maker.folder
    kept = [row for row in rows if row["kept"]]
    if not kept:
        discard(folder)
        raise OvsegError(
            f"none of the {len(rows)} images in {maker.home} can be used; the first,"
            f" {rows[0]['name']}: {rows[0]['drop_reason']}; `ovseg prepare --check {name} --root"
            f" {maker.home}` lists the problem of each"
        )
    if counts.nothing:
        discard(folder)
        raise OvsegError(f"{maker.home}: {counts.nothing} in {name}; are these its label maps?")
    files = {folder / row[kind] for row in kept for kind in ("image", "label")}
    for part in ("images", "labels"):
        for path in (folder / part).iterdir():
            if path not in files:
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
    """Return the texts used instead of the class names; empty if the names are used."""
    if not synonyms:
        return spec.prompts
    own = spec.prompts or tuple((each.name, each.class_id) for each in spec.classes)
    more = ((word, each.class_id) for each in spec.classes for word in each.synonyms)
    return tuple(dict.fromkeys((*own, *more)))


def _check_apart(home: Path, folder: Path) -> None:
    """Reject an output folder that overlaps the owner's."""
    inside, outside = folder.resolve(), home.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise OvsegError(
            f"{folder} and the source {home} overlap: choose another --out; the source is never"
            " written to"
        )
