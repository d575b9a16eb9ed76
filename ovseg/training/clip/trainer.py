"""The training loop over the regions of pairs, without the stage.

The text tower is frozen, so its embeddings are computed once per noun and training never runs it,
unless the phase trains context vectors in front of it. Every random choice depends only on the seed
and the number of the epoch or step, so a resumed training reaches the same losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.mask_tokens import covered_patches, encode_mask_tokens
from ovseg.models.devices import autocast
from ovseg.stages.threads import cores
from ovseg.training.clip.batches import batches
from ovseg.training.clip.gradients import EmbeddedInParts, set_checkpointing
from ovseg.training.clip.losses import clip_loss, distinct_noun_loss
from ovseg.training.clip.methods import freeze_except, method, phase_groups
from ovseg.training.clip.regions import PairRegions
from ovseg.training.clip.snapshots import save_snapshot, snapshot_path, snapshot_steps
from ovseg.training.loop import cosine_learning_rate, finite_loss, slow_down, take_step
from ovseg.training.state import LogRow, keeps_state, load_state, save_state

MAX_LOGIT_SCALE = math.log(100)


class Trainer:
    """A CLIP with its optimizer: one call per step.

    The CLIP stays in eval mode: only dropout behaves differently in training mode, and it would
    make a resumed training differ.

    Args:
        model: trained in place; parameters the phase does not train get `requires_grad` False.
        noun_embeddings_ke: `(K, E)` embeddings of all nouns of the training set, L2 norm 1.
        nouns: the K nouns, for a phase that trains their texts.
        config: which parameters are trained, and how.
        total_steps: steps of the whole training, for the schedule.

    Attributes:
        parameters: the trained parameters by name.
        optimizer: AdamW.
        log: a row for each completed step.
    """

    def __init__(
        self,
        model: MaskAdaptedCLIP,
        noun_embeddings_ke: Tensor,
        *,
        nouns: Sequence[str] = (),
        config: FinetuneConfig,
        total_steps: int,
    ) -> None:
        self.model, self.config, self.total_steps = model.eval(), config, total_steps
        set_checkpointing(model, config.gradient_checkpointing)
        self.noun_embeddings_ke = noun_embeddings_ke.detach()
        self._texts: ContextVectors | None = None
        if method(config.trains).trains_texts:
            assert isinstance(model.text_prompts, ContextVectors)
            self._texts = model.text_prompts
            self._tokens = self._texts.tokens(model, nouns)
        self.parameters = freeze_except(
            model, config.trains, train_logit_scale=config.train_logit_scale
        )
        self.optimizer = torch.optim.AdamW(
            phase_groups(
                self.parameters,
                weight_decay=config.weight_decay,
                prompt_weight_decay=config.prompt_weight_decay,
                prompt_rate=(config.prompt_learning_rate or config.learning_rate)
                / config.learning_rate,
            ),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=True,
        )
        # half of each batch on a CPU; threads end with the trainer
        self._other = ThreadPoolExecutor(1, thread_name_prefix="half") if cores() > 1 else None
        self.log: list[LogRow] = []

    def noun_texts(self, nouns_n: Tensor) -> Tensor:
        """Return the `(N, E)` embeddings of nouns by index, with gradients if they are trained."""
        if self._texts is None:
            return self.noun_embeddings_ke[nouns_n]
        with self._autocast():
            return self._texts.encode(self.model, self._tokens[nouns_n])

    def loss(self, image_ne: Tensor, nouns_n: Tensor) -> Tensor:
        """Return the configured loss of region embeddings `(N, E)` and noun indices `(N,)`."""
        scale, config = self.model.logit_scale, self.config
        distinct, local_n = torch.unique(nouns_n, return_inverse=True)
        noun_ke = self.noun_texts(distinct)
        if config.loss == "batch":
            return clip_loss(image_ne, noun_ke[local_n], scale)
        return distinct_noun_loss(
            image_ne,
            noun_ke,
            local_n,
            scale,
            smoothing=config.relation_smoothing,
            temperature=config.relation_temperature,
        )

    def _autocast(self) -> torch.autocast:
        return autocast(self.model.logit_scale.device.type, self.config.precision)

    def step(self, pixels: Tensor, masks: Tensor, nouns_n: Tensor, *, epoch: int = 0) -> float:
        """Take one optimizer step.

        Args:
            pixels: `(N, 3, S, S)` float32, normalized.
            masks: `(N, S, S)` bool.
            nouns_n: `(N,)` int64 rows of the noun embeddings.
            epoch: for the log.

        Returns:
            The loss before the step.

        Raises:
            OvsegError: if the loss is not finite; the parameters stay as after the last step.
        """
        number = len(self.log)
        rate = cosine_learning_rate(
            number,
            base=self.config.learning_rate,
            warmup_steps=self.config.warmup_steps,
            total_steps=self.total_steps,
        )
        regions = EmbeddedInParts(
            self._embedded,
            pixels,
            masks,
            parts=self.config.gradient_accumulation_steps,
            other=self._other,
        )
        loss = self.loss(regions.embeddings, nouns_n)
        value = finite_loss(loss, step=number, advice=self._advice)
        scale = float(self.model.logit_scale.detach().exp())
        take_step(loss, [self.optimizer], factor=rate, after_backward=regions.backward)
        if self.config.train_logit_scale:
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        self.log.append((number, epoch, value, rate, scale))
        return value

    def _embedded(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Return the embeddings `(N, E)` that are compared with the nouns."""
        with self._autocast():
            if self.config.embedder == "crops":
                return self.model.encode_regions(pixels, masks)
            covered = covered_patches(masks, pixels.shape[-1] // self.model.patch_size)
            tokens, _ = encode_mask_tokens(self.model, pixels, covered[:, None])
            return tokens[:, 0]

    def check_finite(self) -> None:
        """Reject overflowed parameters before they are saved.

        Raises:
            OvsegError: if a trained parameter is not finite.
        """
        for name, parameter in self.parameters.items():
            if not bool(parameter.detach().isfinite().all()):
                raise OvsegError(
                    f"training diverged at step {len(self.log) - 1}: {name} is not finite;"
                    f" {self._advice}"
                )

    @property
    def _advice(self) -> str:
        return slow_down(self.config.learning_rate, self.config.warmup_steps)


# --------------------------------------------------------------------------------------
# The loop


def train(
    trainer: Trainer,
    regions: PairRegions,
    nouns_n: Tensor,
    *,
    identity: str,
    state_folder: Path,
    snapshot_folder: Path,
    progress: Callable[[int], None],
) -> list[LogRow]:
    """Train to the end, resuming where an earlier attempt stopped.

    Args:
        trainer: fresh; an existing state in the folder is loaded into it.
        regions: regions of the training set.
        nouns_n: `(len(regions),)` int64 row of each pair's noun in the noun embeddings.
        identity: digest of everything the training depends on.
        state_folder: folder of resumable states.
        snapshot_folder: folder of the configured number of snapshots; those of an earlier attempt
            of this training are kept.
        progress: called after each step, and once for all steps completed before.

    Returns:
        A row for each step.

    Raises:
        OvsegError: if the training diverges or an image disappears; the last good state stays.
    """
    config, device = trainer.config, trainer.model.logit_scale.device
    due = snapshot_steps(trainer.total_steps, config.snapshots)
    behind = {step: snapshot_path(snapshot_folder, step) for step in due}
    resumed = load_state(
        state_folder,
        identity=identity,
        parameters=trainer.parameters,
        optimizer=trainer.optimizer,
        behind=behind,
    )
    if resumed is not None:
        trainer.log = resumed.log
        progress(resumed.step)
    first = len(trainer.log)

    steps = range(first, trainer.total_steps)
    for batch in batches(regions, config, steps=steps, device=device):
        trainer.step(batch.pixels, batch.masks, nouns_n[batch.rows].to(device), epoch=batch.epoch)
        done = len(trainer.log)
        if done in due:  # before the state: a training resumed after this step needs it
            trainer.check_finite()
            save_snapshot(snapshot_folder, done, trainer.parameters)
        if keeps_state(done, total=trainer.total_steps, every=config.checkpoint_every):
            trainer.check_finite()
            save_state(
                state_folder,
                identity=identity,
                step=done,
                parameters=trainer.parameters,
                optimizer=trainer.optimizer,
                log=trainer.log,
                behind=behind,
            )
        progress(1)
    trainer.check_finite()
    return trainer.log
