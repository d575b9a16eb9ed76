"""Records, manifests and catalogues of anybody: what was written, or a refusal; nothing outside."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from harness import fuzzed, mutated
from hypothesis import strategies as st

from ovseg.files.digests import digest_json, file_sha256
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord
from ovseg.stages.run import read_record

PAYLOAD = pa.table({"a": [1, 2, 3]})


def written(folder: Path, shards: int = 2) -> Manifest:
    """A finished stage of some shards."""
    folder.mkdir(parents=True)
    records = []
    for index in range(shards):
        path = folder / f"shard-{index:05d}.parquet"
        write_parquet(PAYLOAD, path)
        records.append(
            ShardRecord(
                index=index,
                path=path.name,
                rows=3,
                bytes=path.stat().st_size,
                sha256=file_sha256(path),
                stats={"n": 3, "first_bad": "ä.jpg: torn", "share": 0.1, "kinds": {"a": [1, None]}},
            )
        )
        path.with_suffix(".json").write_text(records[-1].text(), encoding="utf-8")
    manifest = Manifest(
        stage="squares",
        schema_version=1,
        config={"power": 2, "names": ["ä", ""], "rate": 1e-3},
        config_digest="0" * 16,
        code_digest="1" * 16,
        parents={"images": "2" * 64},
        weights={},
        plan=ShardPlan(counts=(2,) * shards, ids_digest="3" * 64),
        shards=tuple(records),
        stats={"n": 3 * shards},
        folder=folder,
    )
    (folder / "manifest.json").write_text(manifest.text(), encoding="utf-8")
    return manifest


def _texts() -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as name:
        manifest = written(Path(name) / "stage")
        return manifest.text().encode(), manifest.shards[0].text().encode()


MANIFEST, RECORD = _texts()
PATHS = st.sampled_from(
    [
        *("/etc/passwd", "../../secret", "..", ".", "", "a/../../secret", "shard-00000.parquet"),
        *(
            "a/b",
            "link",
            "link/secret",
            "./shard-00000.parquet",
            "x" * 300,
            "\0",
            "\ud800",
            "C:\\a",
        ),
    ]
)
VALUES = st.one_of(
    PATHS,
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=100),
)


def _places(value: object, at: tuple = ()) -> list[tuple]:
    """Where the members of a JSON value lie, at any depth."""
    members = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [place for key, each in members for place in [(*at, key), *_places(each, (*at, key))]]


@st.composite
def changed(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid one with members set, removed or added, sealed anew, with the old seal, or not."""
    data = json.loads(valid)
    for _ in range(draw(st.integers(0, 3))):
        *parents, key = draw(st.sampled_from(_places(data)))
        inner = data
        for parent in parents:
            inner = inner[parent]
        match draw(st.sampled_from(["set", "remove", "add"])):
            case "set":
                inner[key] = draw(VALUES)
            case "remove":
                del inner[key]
            case "add" if isinstance(inner, dict):
                inner[draw(st.text(max_size=4))] = draw(VALUES)
        if not _places(data):
            break
    if draw(st.booleans()) and data.pop("seal", None):
        with suppress(UnicodeEncodeError):
            data |= {"seal": digest_json(data)} if draw(st.booleans()) else {}
    return json.dumps(data).encode()


def _arranged(folder: Path) -> Path:
    """A stage beside a file that is not its own, and a link to that from within."""
    (folder / "secret").write_bytes(b"secret")
    home = folder / "root" / "stage"
    written(home)
    (home / "link").symlink_to(folder)
    return home


@fuzzed(mutated([MANIFEST, RECORD]) | changed(MANIFEST), seeds=[b"[" * 100_000, MANIFEST, b""])
def test_manifest(case: bytes, folder: Path) -> None:
    """A manifest is what was written, or refused; its shards lie in its folder."""
    home = _arranged(folder)
    whole = Manifest.read(home)
    (home / "manifest.json").write_bytes(case)
    found = Manifest.read(home)
    for path in found.paths():
        assert path.is_relative_to(home.resolve())
    if json.loads(case).get("seal") == json.loads(MANIFEST)["seal"]:
        assert found == whole


@fuzzed(mutated([RECORD, MANIFEST]) | changed(RECORD), seeds=[b"[" * 100_000, RECORD, b"null"])
def test_record(case: bytes, folder: Path) -> None:
    """A record counts if its shard is as it says; else it is as though there were none."""
    home = _arranged(folder)
    whole = read_record(home, 0)
    (home / "shard-00000.json").write_bytes(case)
    found = read_record(home, 0)
    if found is not None:
        assert (home / found.path).resolve().is_relative_to(home.resolve())
        assert found.sha256 == file_sha256(home / found.path)
        if json.loads(case).get("seal") == json.loads(RECORD)["seal"]:
            assert found == whole
