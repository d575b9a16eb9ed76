"""Images per second of a Swin-B MaskFormer, whole and its network alone; shares of the peak."""

from __future__ import annotations

import torch

from bench.gpu import made
from bench.gpu.results import Part, Values, count_flops
from bench.gpu.sizes import Sizes
from ovseg.models.devices import autocast
from ovseg.models.preprocessing import pad_batch


@torch.inference_mode()
def measure(part: Part, sizes: Sizes) -> None:
    """Measure proposing by batch size: from pixels to masks at full size, and the network alone."""
    proposing = made.maskformer(sizes, part.device)
    inputs = proposing.inputs

    def images(batch: int) -> list:
        return [made.image(seed, *sizes.image) for seed in range(batch)]

    def alone(batch: int) -> Values:
        pixels = pad_batch(images(batch), inputs.mean, inputs.std, torch.device(part.device))
        with autocast(part.device, "bf16"):
            flops = count_flops(lambda: proposing.predict(pixels[:1])) * batch
            return part.rates(
                lambda: proposing.predict(pixels),
                batch,
                "images",
                seconds=sizes.seconds,
                flops=flops,
            )

    def whole(batch: int, precision: str) -> Values:
        given = images(batch)
        with autocast(part.device, precision):
            return part.rates(
                lambda: proposing.propose(given), batch, "images", seconds=sizes.seconds
            )

    for batch in sizes.proposal_batches:
        part.measure(f"network alone, batch {batch}, bf16", lambda b=batch: alone(b))
        part.measure(f"batch {batch}, bf16", lambda b=batch: whole(b, "bf16"))
    first = sizes.proposal_batches[0]
    part.measure(f"batch {first}, fp32", lambda: whole(first, "fp32"))
