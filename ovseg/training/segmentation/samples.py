"""Images and label maps on disk as training samples of the segmentation network.

The folder is laid out as a benchmark is (`ovseg.data.benchmarks.benchmark`). Each class present in
an image makes one mask, the paper's training on COCO-Stuff; pixels with the ignored label are not
known.

    samples = LabelledSamples(load_benchmark("prepared", Path("data/coco-stuff")))
    survey = samples.survey()
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovseg.data.benchmarks.benchmark import Benchmark, Sample, region_masks
from ovseg.data.benchmarks.label_maps import LabelError
from ovseg.data.images import ImageError, read_image, upright_size
from ovseg.errors import OvsegError
from ovseg.training.segmentation.augmentation import SegmentationSample


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a labelled folder holds.

    Attributes:
        images: how many there are.
        unlabelled: how many of them have no labelled pixel; they are not trained on.
        class_images: (K,) int64, in how many images each class occurs.
    """

    images: int
    unlabelled: int
    class_images: NDArray[np.int64]


class LabelledSamples(Sequence[SegmentationSample]):
    """The images of a folder with a mask for each class present; read when asked for.

    Args:
        benchmark: names, images and label maps.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self._samples: Sequence[Sample] = benchmark.samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> SegmentationSample:  # type: ignore[override]
        """Sample `index`; masks in the order of the classes.

        Raises:
            OvsegError: the image or its label map cannot be used.
        """
        sample = self._samples[index]
        try:
            image = read_image(sample.image)
        except ImageError as error:
            raise OvsegError(f"{sample.image}: {error}; mend or remove it") from error
        try:
            labels = self.benchmark.labels(sample)
            _check_size(labels.shape, image.shape[:2])
        except LabelError as error:
            raise OvsegError(f"{sample.label}: {error}; mend it or remove its image") from error
        classes, masks = region_masks(labels, len(self.benchmark.classes))
        return SegmentationSample(
            image, masks, classes.astype(np.int64), labels != self.benchmark.ignore_index
        )

    def survey(self, *, workers: int = 0) -> Survey:
        """Read every label map and the head of every image, before any time goes into training.

        Images without a labelled pixel are left out of the samples from then on.

        Args:
            workers: threads; 0 reads in place.

        Raises:
            OvsegError: some file cannot be used, or no pixel is labelled.
        """
        if workers:
            with ThreadPoolExecutor(workers) as pool:
                found = list(pool.map(self._classes_of, self._samples))
        else:
            found = [self._classes_of(sample) for sample in self._samples]
        bad = [each for each in found if isinstance(each, str)]
        if bad:
            raise OvsegError(
                f"{len(bad)} of {len(found)} labelled images cannot be used; the first: {bad[0]};"
                " mend them, or remove image and label map"
            )
        present = [each for each in found if not isinstance(each, str)]
        labelled = [sample for sample, classes in zip(self._samples, present) if len(classes)]
        if not labelled:
            raise OvsegError(
                f"no pixel of {len(found)} label maps is labelled: label maps hold the index of a"
                f" class, 0 to {len(self.benchmark.classes) - 1}"
            )
        counts = np.bincount(np.concatenate(present), minlength=len(self.benchmark.classes))
        self._samples = labelled
        return Survey(images=len(found), unlabelled=len(found) - len(labelled), class_images=counts)

    def _classes_of(self, sample: Sample) -> NDArray[np.int32] | str:
        """The classes that occur in an image, or why it cannot be used."""
        try:
            labels = self.benchmark.labels(sample)
            _check_size(labels.shape, upright_size(sample.image))
        except LabelError as error:
            return f"{sample.label}: {error}"
        except ImageError as error:
            return f"{sample.image}: {error}"
        classes = np.unique(labels)
        return classes[(classes >= 0) & (classes < len(self.benchmark.classes))]


def _check_size(labels_hw: tuple[int, ...], image_hw: tuple[int, ...]) -> None:
    if labels_hw != image_hw:
        raise LabelError(
            f"label map of {labels_hw[1]} x {labels_hw[0]} pixels, its image has"
            f" {image_hw[1]} x {image_hw[0]}"
        )
