"""Small phases of fine-tuning, and what they leave."""

from pathlib import Path

import pyarrow.parquet as pq
import torch

from ovseg.config.training import FinetuneConfig
from ovseg.models.clip.load import load_clip
from ovseg.training.clip.stage import LOG_FILE


def config(tiny_clip: Path, data, **settings) -> FinetuneConfig:
    values = {
        "clip": str(tiny_clip),
        "image_root": data.image_root,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "device": "cpu",
        **settings,
    }
    return FinetuneConfig(**values)


def log_of(manifest) -> dict[str, list]:
    return pq.read_table(manifest.payload() / LOG_FILE).to_pydict()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in load_clip(str(folder)).checkpoint_state().items()}
