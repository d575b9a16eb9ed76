"""The fingerprints stage: names and hashes of a benchmark's images, to find them in other data.

    prints = run_stage(FINGERPRINTS, FingerprintsConfig(benchmark=..., root=...), {}, root)

It covers all images of the benchmark, whatever `limit` a run scores.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ovseg.config.data import FingerprintsConfig
from ovseg.data.benchmarks.benchmark import Benchmark, load_benchmark
from ovseg.data.images import ImageError, decode, read_bytes
from ovseg.data.perceptual_hash import phash
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.schema import FINGERPRINTS as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage


class FingerprintsStage(Stage[FingerprintsConfig]):
    """Hashes the images of a benchmark."""

    name = "fingerprints"

    def plan(self, config: FingerprintsConfig, inputs: Inputs) -> ShardPlan:
        """Cut the sorted image ids into blocks."""
        ids = [sample.image_id for sample in _benchmark(config).samples]
        return ShardPlan.blocks(ids, config.shard_size)

    def weights(self, config: FingerprintsConfig, inputs: Inputs) -> dict[str, str]:
        """Digest the images by name and content."""
        benchmark = _benchmark(config)
        names = [sample.image.name for sample in benchmark.samples]
        contents = [image for _, image, _ in benchmark.contents()]
        return {"images": digest_json([names, contents])}

    def write(
        self,
        config: FingerprintsConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Hash the images of one shard; undecodable images get no perceptual hash."""
        rows, bad = [], 0
        for sample in _benchmark(config).samples[self.plan(config, inputs).span(shard)]:
            row = {
                "benchmark": config.benchmark,
                "image_id": sample.image_id,
                "file_name": sample.image.name,
            }
            try:
                content = read_bytes(sample.image)
                row["image_sha256"] = hashlib.sha256(content).hexdigest()
                row["image_phash"] = phash(decode(content))
            except ImageError as error:
                row["drop_reason"] = error.reason
                bad += 1
            rows.append(row)
            progress(1)
        write_parquet(rows_to_table(rows, SCHEMA), target)
        return Output(rows=len(rows), stats={"images": len(rows), "unreadable": bad})


FINGERPRINTS = FingerprintsStage()


def _benchmark(config: FingerprintsConfig) -> Benchmark:
    return load_benchmark(config.benchmark, config.root)


_IDS = {
    # 000000000139.jpg (2017) and COCO_val2014_000000000139.jpg (2014) are the same photograph
    "coco": re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(?P<id>\d{12})"),
    # 2007_000033.jpg, in VOC and in Context, which uses VOC's images
    "pascal": re.compile(r"(?P<id>20\d\d_\d{6})"),
}
_FAMILIES = {"coco-": "coco", "voc-": "pascal", "context-": "pascal"}


def family(benchmark: str) -> str | None:
    """Return the family of ids in a benchmark's file names; None if they mean nothing."""
    return next((name for start, name in _FAMILIES.items() if benchmark.startswith(start)), None)


def published_id(file_name: str, family: str) -> str | None:
    """Return the id in a file name; None if it has none.

    Args:
        file_name: a path, or the name of a tar's member.
        family: `coco` or `pascal`.
    """
    stem = re.split(r"[/\\#]", file_name)[-1].partition(".")[0]
    match = _IDS[family].fullmatch(stem)
    return match["id"] if match else None
