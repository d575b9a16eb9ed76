"""The last part of a class-embedding MaskFormer's training: the class head only.

Trained on few classes, the head becomes certain of one of them, and at temperature 100 an unseen
class has no probability left for the ensemble with CLIP to raise (OVSeg, CVPR 2023, section 3.1).
Label smoothing (Szegedy et al., CVPR 2016) bounds that certainty; the masks, and therefore the
proposals, do not change.

With few texts, most directions of the embedding space affect no loss: the head's output there is
arbitrary, and the text of an unseen class with a part in them can win for every query. Its outputs
are therefore projected onto the span of the training texts. The paper does neither; with 171
classes in 768 dimensions every other text is close to some of them.
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
    """Train the class embedding's layers and the non-object embedding; the rest is frozen.

    Args:
        network: trained in place, in evaluation mode, so that its statistics do not change.
        batches: augmented samples, one batch per step.
        text_embeddings: (K, E) float, the texts of the classes that labels index.
        target_of: converts a sample to the matcher's target.
        inputs: how pixels are prepared.
        weights: only `label_smoothing`, `non_object` and `spare_unknown` are used.
        costs: weights of the matching.
        learning_rate: AdamW's learning rate, falling linearly to 0.
        weight_decay: AdamW's weight decay.
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

    The projection is folded into the network's last layer, which is linear.

    Args:
        network: the network; a query's cosines with these texts all rise by the same factor, those
            with *non-object* and other texts lose the part outside the span.
        text_embeddings: (K, E) float, texts of the classes it was trained on.
    """
    last = network.class_embed.layers[-1]
    assert isinstance(last, nn.Linear)
    _, strengths, basis = torch.linalg.svd(text_embeddings.to(last.weight), full_matrices=False)
    basis = basis[strengths > strengths.max() * 1e-5]
    last.weight.copy_(basis.T @ (basis @ last.weight))
    last.bias.copy_(basis.T @ (basis @ last.bias))
