"""Training of the storybook's compact convolutional CLIP from images and captions; text is frozen.

    python -m flows.pretrain conv-clip [--seed 0] [--out DIR]

The frozen text tower is the shipped CLIP's. The image tower learns to match it from captions, and
from the image embeddings of the shipped CLIP for the same images. The images are arranged in
mosaics and the dense features are averaged per tile, which keeps features local, as mask pooling
needs them. No masks are used, and no scene outside the pretraining part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import create_model, load_clip, load_model
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.save import save_clip
from ovseg.models.regions.picture_embedders import MaskPoolingEmbedder
from ovseg.models.texts.templates import text_embeddings
from ovseg.pretraining.cards import STORYBOOK_CLIP, captioned_pictures, write_card
from ovseg.pretraining.clip import caption_loss, log_steps
from ovseg.pretraining.clip_scores import accuracy_parts, region_accuracy
from ovseg.pretraining.pictures import CaptionedPictures, render_pictures
from ovseg.pretraining.tiles import TileBatches, mosaic
from ovseg.storybook.categories import CATEGORIES
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import SHIPPED_CLIPS
from ovseg.storybook.world import scene_seeds
from ovseg.training.loop import cosine_learning_rate, decay_matrices, fit, parameter_groups

EVAL_SIZE = 320  # twice the images' size: objects are then about as large as in the tiles


@dataclass(frozen=True, kw_only=True)
class ConvRecipe:
    """One training run; the defaults are those of the shipped weights.

    Attributes:
        scenes: number of rendered scenes; each yields up to six images.
        steps: optimizer steps.
        tiles: images along one side of a mosaic.
        mosaics: mosaics per step.
        tile_size: side of an image in the mosaic, pixels, a multiple of `STRIDE`; CLIP's input.
        rate: peak learning rate of AdamW, after a linear warm-up, falling to zero along a cosine.
        warmup: warm-up steps.
        weight_decay: of matrices.
        distil: weight of the distance to the shipped CLIP's image embedding.
        eval_scenes: number of validation scenes for the metrics.
        stored_size: side of the rendered images, with room to crop.
        tower: timm's name of the image tower.
    """

    scenes: int = 3000
    steps: int = 6000
    tiles: int = 4
    mosaics: int = 8
    tile_size: int = 64
    rate: float = 4e-3
    warmup: int = 40
    weight_decay: float = 0.05
    distil: float = 4.0
    eval_scenes: int = 100
    stored_size: int = 72
    tower: str = "test_convnext2"

    @property
    def batch(self) -> int:
        """Images per step."""
        return self.mosaics * self.tiles**2

    def model_cfg(self, text_of: MaskAdaptedCLIP) -> dict[str, Any]:
        """Return open_clip's configuration: this tower with the text tower of another model."""
        assert text_of.model_cfg is not None
        return {
            "embed_dim": text_of.embed_dim,
            "vision_cfg": {
                "timm_model_name": self.tower,
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": self.tile_size,
            },
            "text_cfg": text_of.model_cfg["text_cfg"],
        }


def start(teacher: MaskAdaptedCLIP, recipe: ConvRecipe) -> ConvCLIP:
    """Combine a new convolutional tower with a CLIP's text tower and temperature, both frozen."""
    clip = create_model(
        recipe.model_cfg(teacher),
        vocabulary=teacher.vocabulary,
        preprocess_cfg={"mean": teacher.pixel_mean, "std": teacher.pixel_std},
    )
    assert isinstance(clip, ConvCLIP)
    texts = {
        name: tensor
        for name, tensor in teacher.clip.state_dict().items()
        if not name.startswith("visual.")
    }
    clip.clip.load_state_dict(texts, strict=False)
    for name, parameter in clip.clip.named_parameters():
        parameter.requires_grad_(name.startswith("visual."))
        if name.endswith(".gamma"):  # timm's 1e-6 is for deep towers and slows a short run
            nn.init.ones_(parameter)
    return clip


def tile_embeddings(clip: ConvCLIP, mosaics_nchw: Tensor, tiles: int) -> Tensor:
    """Embed the images of mosaics, each from its own dense features: `(M * T * T, E)`.

    Equals `ConvCLIP.pool_masks` with the tiles as masks, for all mosaics at once.
    """
    visual = clip.clip.visual
    pooled = F.adaptive_avg_pool2d(clip.dense_features(mosaics_nchw), tiles)  # (M, C, T, T)
    rows = pooled.permute(0, 2, 3, 1).reshape(-1, pooled.shape[1], 1, 1)
    return F.normalize(visual.head(visual.trunk.forward_head(rows)), dim=-1)


# ------------------------------------------------------------------------------------- whole run


def train_conv_clip(
    clip: ConvCLIP,
    teacher: MaskAdaptedCLIP,
    data: CaptionedPictures,
    *,
    recipe: ConvRecipe,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train an image tower in place.

    Args:
        clip: from `start`.
        teacher: the CLIP whose image embeddings are imitated.
        data: the images.
        recipe: the run.
        seed: for order and augmentation.
        progress: called with steps done and the loss.

    Returns:
        The loss of every step.
    """
    batches = TileBatches(data, teacher, batch=recipe.batch, size=recipe.tile_size, seed=seed)
    trained = {name: p for name, p in clip.named_parameters() if p.requires_grad}
    groups = parameter_groups(
        trained, rate=lambda _: 1.0, decay=decay_matrices(recipe.weight_decay)
    )
    device = clip.logit_scale.device

    def loss_of(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        pixels, wanted, texts, rows = (part.to(device) for part in batch)
        images = tile_embeddings(clip, mosaic(pixels, recipe.tiles), recipe.tiles)
        loss = caption_loss(images, texts, rows, clip.logit_scale.exp())
        return loss + recipe.distil * (1 - (images * wanted).sum(dim=1)).mean()

    def rate(step: int) -> float:  # cosine from the first step, times the warm-up
        warm = min(1.0, (step + 1) / recipe.warmup)
        return cosine_learning_rate(
            step, base=recipe.rate * warm, warmup_steps=0, total_steps=recipe.steps
        )

    clip.train()
    losses = fit(
        (batches.draw() for _ in range(recipe.steps)),
        loss_of,
        [torch.optim.AdamW(groups, betas=(0.9, 0.98))],
        factor=rate,
        clip=list(trained.values()),
        progress=progress,
    )
    clip.eval()
    return losses


def pretrain_conv_clip(
    out: Path | None = None,
    *,
    cache_dir: Path,
    seed: int = 0,
    recipe: ConvRecipe | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Render, train, evaluate and save the compact convolutional CLIP with its model card.

    Args:
        out: folder to write, see `save_clip`; defaults to the shipped one.
        cache_dir: rendered images are kept here for the next run.
        seed: for weights, order and augmentation; on one machine, a seed determines the model.
        recipe: the run; defaults to that of the shipped weights.
        device: where it is trained; the metrics are measured on the CPU.
        log: receives progress lines.

    Returns:
        Top-1 over all category names of ground-truth masks, `pooled/...` by mask pooling and
        `crops/...` by loose crops, with the parts of `clip_scores.region_accuracy`.
    """
    out = out or SHIPPED_CLIPS["storybook-conv"][0]
    recipe = recipe or ConvRecipe()
    started = time.monotonic()
    data = render_pictures(
        scene_seeds("pretrain", recipe.scenes),
        cache_dir,
        size=recipe.stored_size,
        progress=lambda done, total: log(f"rendered {done} of {total} scenes"),
    )
    teacher = load_clip("storybook", device=device, prompt_depth=0)
    torch.manual_seed(seed)
    clip = start(teacher, recipe).to(device)
    report = log_steps(log, recipe.steps)
    train_conv_clip(clip, teacher, data, recipe=recipe, seed=seed, progress=report)
    save_clip(clip, out, half=True)
    seconds = time.monotonic() - started
    return describe(
        out,
        recipe=recipe,
        seed=seed,
        seconds=seconds,
        pictures=len(data.captions),
        device=device,
    )


def describe(
    out: Path,
    *,
    recipe: ConvRecipe,
    seed: int,
    seconds: float,
    pictures: int,
    device: str = "cpu",
) -> dict[str, float]:
    """Evaluate a saved model, write its card next to it and return the metrics."""
    metrics = evaluate(out, scenes=recipe.eval_scenes)
    write_card(
        out,
        title="Storybook convolutional CLIP",
        purpose=(
            "A compact ConvNeXt beside the text tower of the storybook CLIP. It stands in for the "
            "convolutional CLIPs of open_clip where masks pool dense features."
        ),
        command=f"conv-clip --seed {seed} --device {device}",
        seed=seed,
        seconds=seconds,
        metrics=metrics,
        metrics_note=(
            f"Taken on {recipe.eval_scenes} validation scenes with the saved float16 weights. "
            "Top-1 over all category names (vild templates) for ground-truth masks: `pooled` under "
            f"the mask from one pass over the picture at {EVAL_SIZE} pixels, `crops` with their "
            "background; seen and unseen by the split of seed 0."
        ),
        data=captioned_pictures(
            scenes=recipe.scenes, pictures=pictures, steps=recipe.steps, batch=recipe.batch
        )
        + " The text tower is the storybook CLIP's and was not trained; its image embeddings of"
        " the same pictures are a target beside the captions.",
        packages=("torch", "open_clip_torch", "timm", "numpy"),
        **STORYBOOK_CLIP,
    )
    return metrics


def evaluate(folder: Path, *, scenes: int) -> dict[str, float]:
    """Measure a saved convolutional CLIP on validation scenes, see `pretrain_conv_clip`."""
    clip = load_model(str(folder))
    assert isinstance(clip, ConvCLIP)
    validation = [draw_scene(seed) for seed in scene_seeds("val", scenes)]
    names = [category.name for category in CATEGORIES]
    embedder = MaskPoolingEmbedder(clip, size=EVAL_SIZE)
    texts = text_embeddings(clip, names, templates="vild")
    hits, labels = [], []
    for scene in validation:
        masks = torch.stack([torch.from_numpy(segment.mask) for segment in scene.segments])
        embeddings, valid = embedder.embed(scene.image, masks, threshold=None)
        label = torch.tensor([names.index(s.category.name) for s in scene.segments])[valid]
        hits.append((embeddings @ texts.T).argmax(dim=1) == label)
        labels.append(label)
    pooled = accuracy_parts(torch.cat(hits), torch.cat(labels))
    crops = region_accuracy(clip, validation, region="box")
    return {
        **{f"pooled/{name}": value for name, value in pooled.items()},
        **{f"crops/{name}": value for name, value in crops.items()},
    }
