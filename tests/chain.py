"""The storybook's chain in one process, small: `python tests/chain.py ROOT SCENES` prints digests.

A line of JSON: the content digest of each stage, torch's threads outside of them, and the seconds
of processor time and of the wall that each took.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from ovseg.config.mining import load_curation
from ovseg.config.presets import load_preset
from ovseg.data.listing import LIST_IMAGES
from ovseg.data.storybook import WORLD
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.mining.nouns.embeddings import TEXTS
from ovseg.mining.nouns.stage import NOUNS
from ovseg.mining.pairs.curation import CURATE
from ovseg.mining.pairs.stage import PAIRS
from ovseg.mining.pairs.table import PAIR_TABLE
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage
from ovseg.training.clip.stage import FINETUNE


def chain(root: Path, scenes: int, *, steps: int = 3) -> dict[str, Any]:
    """Mine, train and score on so many scenes; content digests and times by stage."""
    found: dict[str, Any] = {"digests": {}, "cpu": {}, "wall": {}}

    def step(stage: Any, config: Any, inputs: dict[str, Manifest]) -> Manifest:
        cpu, wall = time.process_time(), time.perf_counter()
        manifest = run_stage(stage, config, inputs, root)
        found["digests"][stage.name] = manifest.content_digest
        found["cpu"][stage.name] = round(time.process_time() - cpu, 2)
        found["wall"][stage.name] = round(time.perf_counter() - wall, 2)
        return manifest

    config = load_preset("storybook", {"data.mining_world.scenes": scenes})
    assert config.data.mining_world is not None
    world = step(WORLD, config.data.mining_world, {}).payload()
    captions = world / "annotations" / "captions.json"
    config = config.changed("data", captions=captions, images=world / "images")
    images = step(LIST_IMAGES, config.images, {})
    nouns = step(NOUNS, config.nouns, {"images": images})
    proposals = step(PROPOSALS, config.proposals, {"images": images})
    texts = step(TEXTS, config.texts, {"nouns": nouns})
    parts = {"images": images, "nouns": nouns, "proposals": proposals, "texts": texts}
    table = step(PAIR_TABLE, config.table, {"pairs": step(PAIRS, config.pairing, parts)})
    curated = step(CURATE, load_curation("paper"), {"table": table})
    (phase,) = config.phases["finetuned"]
    size = max(2, curated.rows // steps)
    phase = phase.model_copy(update={"epochs": 1, "batch_size": min(size, phase.batch_size)})
    checkpoint = step(FINETUNE, phase, {"curated": curated, "table": table})
    found["steps"] = checkpoint.rows
    (setting,) = config.with_benchmark_root("storybook", world).scored
    setting = setting.model_copy(update={"limit": scenes})
    step(BENCHMARK, setting, {"checkpoint": checkpoint})
    return found


if __name__ == "__main__":
    done = chain(Path(sys.argv[1]), int(sys.argv[2]))
    import torch

    print(json.dumps({**done, "threads": torch.get_num_threads()}))
