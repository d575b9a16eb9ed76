"""What a source of proposals gives, and what the proposals stage asks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ovseg.data.images import ImageArray


class EncodedProposals(NamedTuple):
    """The proposals of one image as rows hold them: run-length encoded, binary, at its own size.

    Attributes:
        counts: Q masks of the image's own size, as `ovseg.data.masks.encode` gives them.
        scores: Q numbers, the higher the better; None where a mask has none.
        ids: their `proposal_id`s, ascending; 0 to Q - 1 where empty.
        labels: of ground-truth masks the names of their classes; nothing of others.
        left_out: masks that may not be used, as (`proposal_id`, class name): rows without a mask.
        reason: why there is nothing at all, where that is so: a key of `gates.REASONS`, and after
            a colon the details.
    """

    counts: Sequence[bytes]
    scores: Sequence[float | None]
    ids: Sequence[int] = ()
    labels: Sequence[str] = ()
    left_out: Sequence[tuple[int, str]] = ()
    reason: str = "no_query"


class ProposalSource(Protocol):
    """What the proposals stage asks of a source."""

    @property
    def label(self) -> str:
        """What tables call it: a name and 8 digits of a digest, `maskformer@01234567`."""

    @property
    def weights(self) -> Mapping[str, str]:
        """Content digests of all it reads beside the images; another digest, another result."""

    def propose(
        self, batch: Sequence[tuple[Mapping[str, Any], ImageArray]]
    ) -> Iterable[EncodedProposals]:
        """The proposals of images in order.

        Args:
            batch: each image's row of the images table, and its `(H, W, 3)` uint8 RGB pixels.
        """
