"""Training of the storybook's compact CLIP from images and loose captions.

    python -m flows.pretrain clip [--seed 0] [--out DIR]

No masks are used, so the model knows loose crops and is worse on crops with a blanked background:
the weakness that mask adaptation repairs. Its vocabulary is cut from CLIP's.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.save import save_clip
from ovseg.models.clip.text_tower import encode_trimmed
from ovseg.pretraining.cards import STORYBOOK_CLIP, captioned_pictures, write_card
from ovseg.pretraining.clip_batches import Batches
from ovseg.pretraining.pictures import CaptionedPictures, render_pictures
from ovseg.storybook.weights import SHIPPED_CLIPS
from ovseg.storybook.world import scene_seeds
from ovseg.training.clip.trainer import MAX_LOGIT_SCALE
from ovseg.training.loop import cosine_learning_rate, decay_matrices, fit, parameter_groups

BYTE_TOKENS = 512  # 256 bytes, each within a word or at its end
SPECIAL_TOKENS = 2  # start and end of text, the last two ids


def cut_bpe(src: Path, dst: Path, *, merges: int = 4000) -> int:
    """Keep the header and the first merges of a BPE file.

    CLIP's merges are ordered by frequency: the first 4,000 encode common English words as one token
    and rare words as a few, and a small text tower's token table shrinks elevenfold.

    Args:
        src: gzip text, a header line and one merge per line, as shipped with open_clip.
        dst: file to write, byte-identical for equal input.
        merges: how many merges to keep.

    Returns:
        The vocabulary size that open_clip's `SimpleTokenizer` reads from `dst`: byte tokens,
        merges, then start and end of text as the last two ids.

    Raises:
        ValueError: if the file has fewer merges.
    """
    with gzip.open(src, "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")[: merges + 1]
    if len(lines) < merges + 1 or not all(len(line.split()) == 2 for line in lines[1:]):
        raise ValueError(f"{src} has fewer than {merges} merges")
    # no newline at the end: the tokenizer would take an empty line for one more merge
    data = gzip.compress("\n".join(lines).encode("utf-8"), compresslevel=9, mtime=0)
    dst.parent.mkdir(parents=True, exist_ok=True)
    dst.write_bytes(data)
    return BYTE_TOKENS + merges + SPECIAL_TOKENS


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run; the defaults are those of the shipped weights.

    Attributes:
        scenes: number of rendered scenes; each yields up to six images.
        steps: optimizer steps.
        batch: images per step.
        peak_rate: learning rate of the blocks' matrices (Muon) after the warm-up, falling to zero
            along a cosine; everything else (AdamW) has half of it.
        warmup: steps of linear warm-up.
        weight_decay: of matrices; vectors and scalars have none.
        eval_scenes: number of validation scenes for the metrics.
        image_size: side of CLIP's input, pixels.
        merges: BPE merges of the vocabulary.
    """

    scenes: int = 8000
    steps: int = 3000
    batch: int = 128
    peak_rate: float = 4e-3
    warmup: int = 40
    weight_decay: float = 0.05
    eval_scenes: int = 300
    image_size: int = 48
    merges: int = 4000

    @property
    def stored_size(self) -> int:
        """Side of the rendered images, with room to crop."""
        return self.image_size + 8

    def model_cfg(self, vocab_size: int) -> dict[str, Any]:
        """Return open_clip's configuration of the compact model."""
        return {
            "embed_dim": 128,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": 8,
                "width": 128,
                "head_width": 32,
                "layers": 4,
            },
            "text_cfg": {
                "context_length": 40,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 3,
            },
        }


# -------------------------------------------------------------------------------------------- loss
def caption_loss(
    image_features: Tensor, text_features: Tensor, rows: Tensor, scale: Tensor
) -> Tensor:
    """Compute a symmetric InfoNCE in which images that share a caption are not false negatives.

    Args:
        image_features: `(B, E)` of norm 1.
        text_features: `(U, E)` of norm 1, one row for each distinct caption.
        rows: `(B,)` the caption index of each image.
        scale: inverse temperature, scalar.

    Returns:
        The mean of both directions, scalar. A caption's target is spread evenly over its images and
        weighted by their number; without repeated captions this is CLIP's loss.
    """
    logits = scale * image_features @ text_features.T
    to_text = F.cross_entropy(logits, rows)
    to_image = -logits.log_softmax(dim=0)[torch.arange(len(rows)), rows].mean()
    return (to_text + to_image) / 2


def build_optimizers(clip: MaskAdaptedCLIP, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Build the optimizers: Muon for the matrices of the blocks, AdamW for everything else.

    In runs of minutes, Muon reaches a given loss in slightly more than half of AdamW's steps here.

    Args:
        clip: the model.
        recipe: rates and weight decay.

    Returns:
        Two optimizers, with the groups of `parameter_groups`.
    """
    decay = decay_matrices(recipe.weight_decay)
    named = {name: p for name, p in clip.named_parameters() if p.requires_grad}
    blocks = {name: p for name, p in named.items() if "resblocks" in name and p.ndim == 2}
    others = {name: p for name, p in named.items() if name not in blocks}
    muon = parameter_groups(blocks, rate=lambda _: recipe.peak_rate, decay=decay)
    adamw = parameter_groups(others, rate=lambda _: recipe.peak_rate / 2, decay=decay)
    return [
        torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adamw, betas=(0.9, 0.98), eps=1e-6),
    ]


def train_clip(
    clip: MaskAdaptedCLIP,
    data: CaptionedPictures,
    *,
    recipe: Recipe,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a model in place.

    Args:
        clip: fresh weights, on the CPU.
        data: the images.
        recipe: the run.
        seed: for order and augmentation.
        progress: called with steps done and the loss.

    Returns:
        The loss of every step.
    """
    batches = Batches(data, clip, batch=recipe.batch, seed=seed)
    optimizers = build_optimizers(clip, recipe)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def loss_of(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        pixels, tokens, rows = batch
        images, texts = clip.encode_regions(pixels), encode_trimmed(clip, tokens)
        return caption_loss(images, texts, rows, clip.logit_scale.exp())

    @torch.no_grad()
    def clamp_scale() -> None:
        clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    clip.train()
    losses = fit(
        (batches.draw() for _ in range(recipe.steps)),
        loss_of,
        optimizers,
        factor=lambda step: cosine_learning_rate(
            step, base=1.0, warmup_steps=recipe.warmup, total_steps=recipe.steps
        ),
        clip=[parameter for group in groups for parameter in group["params"]],
        after_step=clamp_scale,
        progress=progress,
    )
    clip.eval()
    return losses


def log_steps(log: Callable[[str], None], steps: int) -> Callable[[int, float], None]:
    """Return a `progress` that logs every twentieth step and the last, with the seconds so far."""
    started = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 20 == 0 or step == steps:
            log(f"step {step} of {steps}: loss {loss:.3f}, {time.monotonic() - started:.0f} s")

    return report


# -------------------------------------------------------------------------------------- whole run
def pretrain_clip(
    out: Path | None = None,
    *,
    cache_dir: Path,
    seed: int = 0,
    recipe: Recipe | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Render, train, evaluate and save the compact CLIP with its model card.

    Args:
        out: folder to write, see `save_clip`; defaults to the shipped one.
        cache_dir: rendered images are kept here for the next run.
        seed: for weights, order and augmentation; on one machine, a seed determines the model.
        recipe: the run; defaults to that of the shipped weights.
        log: receives progress lines.

    Returns:
        The metrics of `ovseg.pretraining.clip_scores.evaluate`.
    """
    from ovseg.pretraining.clip_scores import evaluate

    out = out or SHIPPED_CLIPS["storybook"][0]
    recipe = recipe or Recipe()
    started = time.monotonic()
    data = render_pictures(
        scene_seeds("pretrain", recipe.scenes),
        cache_dir,
        size=recipe.stored_size,
        progress=lambda done, total: log(f"rendered {done} of {total} scenes"),
    )
    vocabulary = cache_dir / f"bpe-{recipe.merges}.txt.gz"
    vocab_size = cut_bpe(Path(open_clip.tokenizer.default_bpe()), vocabulary, merges=recipe.merges)
    torch.manual_seed(seed)
    clip = create_clip(recipe.model_cfg(vocab_size), vocabulary=vocabulary)
    train_clip(clip, data, recipe=recipe, seed=seed, progress=log_steps(log, recipe.steps))
    save_clip(clip, out, half=True)
    metrics = evaluate(out, scenes=recipe.eval_scenes)
    write_card(
        out,
        title="Storybook CLIP",
        purpose=(
            "A compact open_clip model of the storybook's pictures and captions. It stands in for "
            "OpenAI's CLIP where nothing can be downloaded, and is the model that mask adaptation "
            "starts from on the storybook."
        ),
        command=f"clip --seed {seed}",
        seed=seed,
        seconds=time.monotonic() - started,
        metrics=metrics,
        metrics_note=(
            f"Taken on {recipe.eval_scenes} validation scenes with the saved float16 weights. "
            "Accuracy: top-1 over all category names (vild templates) for crops of ground-truth "
            "regions, `unmasked` with their background, `masked` with it blanked; seen and unseen "
            "by the split of seed 0. Retrieval: the right one of "
            f"{recipe.eval_scenes} first captions for a picture, and the reverse."
        ),
        data=captioned_pictures(
            scenes=recipe.scenes,
            pictures=len(data.captions),
            steps=recipe.steps,
            batch=recipe.batch,
        ),
        packages=("torch", "open_clip_torch", "numpy"),
        **STORYBOOK_CLIP,
    )
    return metrics
