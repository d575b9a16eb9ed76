"""The interface between a source of proposals and the proposals stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ovseg.data.images import ImageArray


class EncodedProposals(NamedTuple):
    """The proposals of one image as stored in rows: run-length encoded, binary, at its own size.

    Attributes:
        counts: Q masks of the image's own size, as `ovseg.data.masks.encode` returns them.
        scores: Q numbers, the higher the better; None for a mask without a score.
        ids: their `proposal_id`s, ascending; defaults to 0 to Q - 1.
        labels: class names of ground-truth masks; empty for other masks.
        left_out: masks that are not used, as (`proposal_id`, class name): rows without a mask.
        reason: why there are no proposals, if there are none: a key of `gates.REASONS`, with
            details after a colon.
    """

    counts: Sequence[bytes]
    scores: Sequence[float | None]
    ids: Sequence[int] = ()
    labels: Sequence[str] = ()
    left_out: Sequence[tuple[int, str]] = ()
    reason: str = "no_query"


class ImageMasks(NamedTuple):
    """The proposals of one image before they are encoded.

    Attributes:
        place: index of the image in its batch.
        scores: Q numbers, the higher the better.
        parts: the Q masks in order, some at a time, `(q, H, W)` bool at the image's own size, where
            they were computed; each part is computed when it is asked for.
    """

    place: int
    scores: Sequence[float | None]
    parts: Iterator[Tensor]


class ProposalSource(Protocol):
    """A source of proposals, as the proposals stage uses it."""

    @property
    def label(self) -> str:
        """Its name in tables: a name and 8 digits of a digest, `maskformer@01234567`."""

    @property
    def weights(self) -> Mapping[str, str]:
        """Content digests of everything it reads apart from the images."""

    def propose(
        self, batch: Sequence[tuple[Mapping[str, Any], ImageArray]]
    ) -> Iterable[EncodedProposals]:
        """Return the proposals of images in order.

        Args:
            batch: each image's row of the images table, and its `(H, W, 3)` uint8 RGB pixels.
        """


@runtime_checkable
class MaskSource(ProposalSource, Protocol):
    """A source that the next batch is prepared for, and whose masks are encoded, meanwhile."""

    def prepare(self, batch: Sequence[tuple[Mapping[str, Any], ImageArray]]) -> Any:
        """Prepare a batch, as for `propose`, in another thread than `binary_masks` runs in."""

    def binary_masks(self, prepared: Any) -> Iterator[ImageMasks]:
        """Yield the proposals of every image of a prepared batch once, in any order."""
