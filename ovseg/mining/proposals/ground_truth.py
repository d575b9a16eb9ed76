"""Ground-truth masks as proposals: the region that each class covers in an image's label map.

The labelled set is any that `ovseg.data.benchmarks.benchmark` reads; an image is matched to its
label map by the stem of its file name. A `proposal_id` is the index of the class. The masks have no
score, because nothing has scored them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ovseg.config.mining import ProposalsConfig
from ovseg.data import masks
from ovseg.data.benchmarks.benchmark import Benchmark, Sample, load_benchmark, region_masks
from ovseg.data.benchmarks.label_maps import LabelError
from ovseg.data.images import ImageArray
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, known_sha256
from ovseg.mining.proposals.source import EncodedProposals
from ovseg.models.devices import model_label


class GroundTruthSource:
    """The masks of a labelled set, for all its classes or for those in `label_classes`."""

    def __init__(self, config: ProposalsConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        """The name of the labelled set."""
        if self.config.labels is None:
            raise OvsegError(
                "ground truth needs a labelled set: set data.labels to its folder, or --labels"
            )
        return self.config.label_set or self.config.labels.resolve().name

    @cached_property
    def labelled(self) -> Benchmark:
        """The labelled set.

        Raises:
            OvsegError: if there is none, two of its classes share a name, or it has no class that
                `label_classes` names.
        """
        benchmark = load_benchmark(self.name, self.config.labels)
        names = [name.strip() for name in benchmark.classes]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise OvsegError(
                f"{self.config.labels}: two classes are named {duplicates[0]!r}: a pair's noun is"
                " its class, so give each class a unique name"
            )
        if unknown := sorted(set(self.config.label_classes) - set(names)):
            raise OvsegError(
                f"mining.proposals.label_classes: {self.name} has no class {unknown[0]!r}; its"
                f" classes are {', '.join(names[:5])}, ..."
            )
        return benchmark

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, verbatim but stripped."""
        return tuple(name.strip() for name in self.labelled.classes)

    @cached_property
    def samples(self) -> Mapping[str, Sample]:
        """The samples by the stem of the image's file name.

        Raises:
            OvsegError: if two images share a stem.
        """
        samples = {sample.image.stem: sample for sample in self.labelled.samples}
        if len(samples) != len(self.labelled.samples):
            raise OvsegError(
                f"{self.config.labels}: two images have the same file name apart from folder and"
                " extension, so their labels are ambiguous; rename one"
            )
        return samples

    @property
    def label(self) -> str:
        """The labelled set's name and digest."""
        return model_label(self.name, self.weights["labels"])

    @property
    def weights(self) -> dict[str, str]:
        """The digest of the classes and the label maps."""
        paths = {stem: sample.label for stem, sample in sorted(self.samples.items())}
        stamp = digest_json([[str(path), *_stamp(path)] for path in paths.values()])
        benchmark = self.labelled
        values = [list(benchmark.stored), list(benchmark.ignored)]
        return {"labels": digest_json([self.names, values, _contents(stamp, tuple(paths.items()))])}

    def propose(
        self, batch: Sequence[tuple[Mapping[str, Any], ImageArray]]
    ) -> list[EncodedProposals]:
        """See `ProposalSource`."""
        return [self._masks(row["image_path"], image.shape[:2]) for row, image in batch]

    def _masks(self, image_path: str, size: tuple[int, int]) -> EncodedProposals:
        sample = self.samples.get(PurePosixPath(image_path).stem)
        if sample is None or not sample.label.is_file():
            return EncodedProposals((), (), reason="no_labels")
        try:
            labels = self.labelled.labels(sample)
        except LabelError as error:
            return EncodedProposals((), (), reason=f"bad_labels:{error}")
        if labels.shape != size:
            height, width = labels.shape[:2]
            why = f"{width} x {height} for an image of {size[1]} x {size[0]}"
            return EncodedProposals((), (), reason=f"bad_labels:{why}")
        classes, masks_nhw = region_masks(labels, len(self.names))
        if not len(classes):
            return EncodedProposals((), (), reason="all_ignored")
        allowed = set(self.config.label_classes or self.names)
        usable = [self.names[index] in allowed for index in classes]
        ids = [int(index) for index, fits in zip(classes, usable) if fits]
        return EncodedProposals(
            masks.encode(masks_nhw[usable]),
            [None] * len(ids),
            ids=ids,
            labels=[self.names[index] for index in ids],
            left_out=[
                (int(index), self.names[index]) for index, fits in zip(classes, usable) if not fits
            ],
        )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4)
def _contents(stamp: str, paths: tuple[tuple[str, Path], ...]) -> list[tuple[str, str]]:
    # the stamp is a cache key: edited label maps are read again
    return [(stem, known_sha256(path) if path.is_file() else "missing") for stem, path in paths]
