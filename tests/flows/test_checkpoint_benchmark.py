"""A published checkpoint, imported, scored through the flow with its preset."""

import numpy as np
from PIL import Image
from published_weights import ovseg_state, save_ovseg

from ovseg.config.overrides import spread


def test_an_imported_checkpoint_is_scored_without_mining(prefect_server, tmp_path):
    from flows.benchmark import benchmark
    from ovseg.models.checkpoints.importing import import_checkpoint

    source = save_ovseg(ovseg_state(), tmp_path / "small.pth")
    import_checkpoint(source, tmp_path / "imported", class_names=["house", "tree"], decoder_heads=4)
    prepared = tmp_path / "data" / "voc-20"
    for folder in ("images", "labels"):
        (prepared / folder).mkdir(parents=True)
    (prepared / "classes.txt").write_text("house\ntree\nsea\n")
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(prepared / "images" / f"{number}.png")
        labels = rng.integers(0, 3, (5, 7), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(labels).save(prepared / "labels" / f"{number}.png")
    scored = benchmark(
        "ovseg-swinb-vitl14",
        root=tmp_path / "run",
        overrides={
            **spread(
                {
                    "checkpoint": str(tmp_path / "imported"),
                    "data": str(tmp_path / "data"),
                    "device": "cpu",
                }
            ),
            "benchmarks.short_side": 64,  # the published size is for real images
        },
    )
    assert list(scored) == ["voc-20/imported"]
    scores = scored["voc-20/imported"].stats["scores"]
    assert 0 <= scores["miou_union"] <= 1
    made = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert {"benchmarks", "scores"} <= made and not made & {"images", "nouns", "pairs", "curated"}
