"""The losses of 20 steps of each phase on a fixed tiny model and fixed pairs.

    python tests/training/loss_trace.py        (writes tests/golden/trace.json)

Weights, regions and texts are functions of their indices, not of a random generator's version. The
steps go through the training's own batches: order, random crops, masks, loss, optimiser, schedule.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from ovseg.config.training import FinetuneConfig
from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.training.clip.batches import batches, steps_per_epoch
from ovseg.training.clip.mapped import epoch_order
from ovseg.training.clip.regions import RegionBatch
from ovseg.training.clip.trainer import Trainer

TRACE = Path(__file__).resolve().parents[1] / "golden" / "trace.json"
STEPS, PAIRS, NOUNS, SIZE = 20, 24, 7, 32
COMMON = {"batch_size": 8, "epochs": 7, "warmup_steps": 5, "prompt_depth": 2, "seed": 3}
PHASES = {
    "mask_prompts": {"learning_rate": 0.05, "weight_decay": 0.0},
    "image_encoder": {"learning_rate": 1e-3},
}
"""The phases, with rates at which 20 steps of a model this small show something."""

MODEL = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 1, "layers": 1},
}


def waves(*shape: int, key: int) -> torch.Tensor:
    """Values in -1..1 that look irregular and are the same everywhere."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(index * index * 0.01 + index * (1.7 + 0.13 * key) + key).reshape(shape).float()


def fixed_clip(prompt_depth: int) -> MaskAdaptedCLIP:
    """A tiny CLIP whose image tower has fixed weights."""
    model = create_clip(MODEL, prompt_depth=prompt_depth)
    with torch.no_grad():
        for key, (name, parameter) in enumerate(sorted(model.named_parameters())):
            if name.startswith("clip.visual.") or name == "mask_prompts":
                spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.05
                centre = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
                parameter.copy_(centre + spread * waves(*parameter.shape, key=key))
        model.logit_scale.fill_(2.5)
    return model


class FixedRegions:
    """Regions as `PairRegions` has them: smooth patterns in ragged masks."""

    size, mean, std = SIZE, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)

    def __init__(self) -> None:
        self.usable = torch.arange(PAIRS)
        coarse = waves(PAIRS, 3, 5, 5, key=1)
        pixels = F.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=True)
        outline = F.interpolate(waves(PAIRS, 1, 3, 3, key=2), (SIZE, SIZE), mode="bilinear")
        self.masks = outline[:, 0] > 0.2
        self.pixels = (127 + 120 * pixels).mul(self.masks[:, None]).byte().permute(0, 2, 3, 1)

    def order(self, *, seed: int, epoch: int) -> torch.Tensor:
        return epoch_order(self.usable, seed=seed, epoch=epoch)

    def regions(self, rows: Sequence[int]) -> RegionBatch:
        return RegionBatch(pixels=self.pixels[rows].contiguous(), masks=self.masks[rows])


def losses(trains: str, **changes: object) -> list[float]:
    """The losses of a phase; `changes` are settings of the recipe to be another."""
    config = FinetuneConfig(**{"trains": trains, **COMMON, **PHASES[trains], **changes})
    model = fixed_clip(config.prompt_depth if trains == "mask_prompts" else 0)
    texts = F.normalize(waves(NOUNS, 16, key=3), dim=-1)
    regions, nouns = FixedRegions(), torch.arange(PAIRS) % NOUNS
    total = config.epochs * steps_per_epoch(PAIRS, config.batch_size)
    trainer = Trainer(model, texts, config=config, total_steps=total)
    for batch in batches(regions, config, steps=range(STEPS), device=torch.device("cpu")):
        trainer.step(batch.pixels, batch.masks, nouns[batch.rows], epoch=batch.epoch)
    return [row[2] for row in trainer.log]


def main() -> None:
    """Record the traces."""
    recorded = {trains: [round(value, 6) for value in losses(trains)] for trains in PHASES}
    TRACE.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    print(TRACE)


if __name__ == "__main__":
    main()
