"""The end of a class-embedding MaskFormer's training: its class head alone.

Trained on few classes, the head learns to be certain of one of them, and at temperature 100 a class
it never met then has no probability left that the ensemble with CLIP could raise (OVSeg, CVPR 2023,
section 3.1). Label smoothing (Szegedy et al., CVPR 2016) bounds that certainty; the masks, and with
them the proposals, stay as they are.

Few texts leave most of the space they lie in without a say in any loss: what the head answers there
is arbitrary, and a text of a class it never met that reaches there can win for every query. So its
answers are projected onto the span of the texts it was trained with. The paper has neither; of 171
classes in 768 dimensions every other text is near to some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSettings, pad_batch
from ovseg.training.loop import fit, parameter_groups
from ovseg.training.segmentation.augmentation import SegmentationSample
from ovseg.training.segmentation.criterion import LossWeights, Prediction, label_loss
from ovseg.training.segmentation.matching import MatchingCosts, Target, match


def train_class_head(
    network: OpenVocabularyMaskFormer,
    batches: Iterable[Sequence[SegmentationSample]],
    text_embeddings: Tensor,
    *,
    target_of: Callable[[SegmentationSample], Target],
    inputs: InputSettings,
    weights: LossWeights,
    costs: MatchingCosts,
    learning_rate: float,
    weight_decay: float,
    total_steps: int,
) -> list[float]:
    """Train the class embedding's layers and the non-object embedding; all else is frozen.

    Args:
        network: trained in place, in evaluation mode, so that no statistic of it moves.
        batches: augmented samples, a batch a step.
        text_embeddings: (K, E) float of the classes the labels count.
        target_of: a sample as the matcher wants it.
        inputs: how pixels are prepared.
        weights: `label_smoothing`, `non_object` and `spare_unknown` count.
        costs: of the matching.
        learning_rate: of AdamW, falling linearly to 0.
        weight_decay: of AdamW.
        total_steps: number of batches.

    Returns:
        The loss of every step.
    """
    network.eval().requires_grad_(False)
    network.class_embed.requires_grad_(True)
    network.non_object_embedding.requires_grad_(True)
    groups = parameter_groups(
        {name: p for name, p in network.named_parameters() if p.requires_grad},
        rate=lambda _: learning_rate,
        decay=lambda *_: weight_decay,
    )

    def loss_of(batch: Sequence[SegmentationSample]) -> Tensor:
        pixels = pad_batch(
            [sample.image for sample in batch], inputs.mean, inputs.std, text_embeddings.device
        )
        targets = [target_of(sample) for sample in batch]
        output = network(pixels)
        logits = network.class_logits(output.class_embeddings, text_embeddings)
        matched = [
            match(logits[b].detach(), output.mask_logits[b], target, costs)
            for b, target in enumerate(targets)
        ]
        return label_loss(Prediction(logits, output.mask_logits), targets, matched, weights)

    losses = fit(
        batches,
        loss_of,
        [torch.optim.AdamW(groups)],
        factor=lambda step: 1 - step / total_steps,
        clip=[parameter for parameter in network.parameters() if parameter.requires_grad],
    )
    network.requires_grad_(True)
    return losses


@torch.no_grad()
def keep_to_span(network: OpenVocabularyMaskFormer, text_embeddings: Tensor) -> None:
    """Project a network's class embeddings onto the span of some texts, in place.

    Its last layer is linear, so the projection is part of it from then on.

    Args:
        network: the network; cosines with these texts rise alike for all classes of a query, those
            with *non-object* and other texts lose what lies outside of the span.
        text_embeddings: (K, E) float of the classes it was trained on.
    """
    last = network.class_embed.layers[-1]
    assert isinstance(last, nn.Linear)
    _, strengths, basis = torch.linalg.svd(text_embeddings.to(last.weight), full_matrices=False)
    basis = basis[strengths > strengths.max() * 1e-5]
    last.weight.copy_(basis.T @ (basis @ last.weight))
    last.bias.copy_(basis.T @ (basis @ last.bias))
