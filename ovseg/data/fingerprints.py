"""The fingerprints stage: name and hashes of each image of a benchmark, to be found in other data.

    prints = run_stage(FINGERPRINTS, FingerprintsConfig(benchmark=..., root=...), {}, root)

All of its images count, whatever `limit` a run scores.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ovseg.data.benchmarks import Benchmark, load_benchmark
from ovseg.data.images import ImageError, decode, phash, read_bytes
from ovseg.schema import FINGERPRINTS as SCHEMA
from ovseg.schema import rows_to_table
from ovseg.screening_config import FingerprintsConfig
from ovseg.stages import Inputs, Output, Progress, Stage
from ovseg.storage import ShardPlan, digest_json, write_parquet


class FingerprintsStage(Stage[FingerprintsConfig]):
    """Hashes the images of a benchmark."""

    name = "fingerprints"

    def plan(self, config: FingerprintsConfig, inputs: Inputs) -> ShardPlan:
        """Blocks of the sorted image ids."""
        ids = [sample.image_id for sample in _benchmark(config).samples]
        return ShardPlan.blocks(ids, config.shard_size)

    def weights(self, config: FingerprintsConfig, inputs: Inputs) -> dict[str, str]:
        """The images by name and content."""
        found = _benchmark(config)
        names = [sample.image.name for sample in found.samples]
        contents = [image for _, image, _ in found.contents()]
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
        """Hash the images of one shard; one that cannot be decoded has no perceptual hash."""
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
