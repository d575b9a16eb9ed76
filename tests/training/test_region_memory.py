"""The memory of mined regions: what the stage embeds, counts and refuses.

It stands here for the training set that the fixtures of this folder make.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.config.scoring import BenchmarkConfig, MemoryConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.region_memory import REGION_MEMORY
from ovseg.models.clip.load import load_clip
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.regions.memory import REGIONS_FILE, RegionMemory
from ovseg.stages.run import run_stage
from tests.training.conftest import draw


def memory(data, clip, root, **settings):
    setting = BenchmarkConfig(clip=str(clip), device="cpu", **settings)
    config = MemoryConfig.of(setting, data.image_root)
    return run_stage(REGION_MEMORY, config, {"curated": data.curated, "table": data.table}, root)


def test_every_region_is_embedded_with_its_noun(training_set, tiny_clip, tmp_path):
    data = training_set(images=5)
    manifest = memory(data, tiny_clip, tmp_path / "a")
    kept = RegionMemory.load(manifest.payload())
    assert manifest.stats["regions"] == len(data.rows) == len(kept.regions_ne)
    embedder = CropEmbedder(load_clip(str(tiny_clip)))
    found = {
        (index, noun): embedder.embed(image, torch.from_numpy(mask[None]), threshold=None)[0][0]
        for index in range(5)
        for image, shapes in [draw(index)]
        for noun, mask in shapes
    }
    for row, noun in zip(kept.regions_ne, kept.nouns_n, strict=True):
        cosines = {key: float(row @ feature) for key, feature in found.items()}
        best = max(cosines, key=cosines.__getitem__)
        assert cosines[best] > 0.999 and best[1] == kept.nouns[noun]
    again = memory(data, tiny_clip, tmp_path / "b")
    first, second = (each.payload() / REGIONS_FILE for each in (manifest, again))
    assert first.read_bytes() == second.read_bytes()


def test_what_does_not_decide_on_the_embedding_makes_no_other_memory(training_set, tiny_clip):
    data = training_set(images=2)
    configs = [
        MemoryConfig.of(BenchmarkConfig(clip=str(tiny_clip), **changed), data.image_root)
        for changed in ({}, {"ensemble_weight": 0.2, "limit": 3}, {"expand_ratio": 1.5})
    ]
    assert configs[0].digest() == configs[1].digest() != configs[2].digest()


def test_bad_images_are_counted_and_too_many_stop(training_set, tiny_clip, tmp_path):
    data = training_set(images=30)
    (data.image_root / "0007.png").unlink()
    manifest = memory(data, tiny_clip, tmp_path / "a")
    assert manifest.stats["bad"] == 2 and manifest.stats["regions"] == 58
    assert sum(manifest.stats["bad_reasons"].values()) == 2
    for index in range(8, 12):
        other = np.zeros((9, 9, 3), dtype=np.uint8)
        Image.fromarray(other).save(data.image_root / f"{index:04d}.png")
    with pytest.raises(OvsegError, match="10 of 60 pairs are bad"):
        memory(data, tiny_clip, tmp_path / "b")


def test_damaged_masks_are_counted(training_set, given_manifests, tiny_clip, tmp_path):
    data = training_set(images=20)
    data.rows[3]["mask_counts"] = b"0o"  # ends within a number
    chosen = [{"pair_id": row["pair_id"], "noun": row["noun"]} for row in data.rows]
    manifest = memory(
        given_manifests(data.image_root, data.rows, chosen), tiny_clip, tmp_path / "a"
    )
    assert manifest.stats["bad_reasons"] == {"broken_mask": 1}
    assert manifest.stats["regions"] == len(data.rows) - 1


def test_a_benchmark_says_how_many_regions_may_be_bad():
    strict, lenient = (
        MemoryConfig.of(BenchmarkConfig(max_bad_fraction=share), None) for share in (0.0, 0.3)
    )
    assert (strict.max_bad_fraction, lenient.max_bad_fraction) == (0.0, 0.3)
    assert strict.result_fields() == lenient.result_fields(), "the memory is the same one"
