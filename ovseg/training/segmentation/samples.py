"""Images and label maps on disk as training samples of the segmentation network.

The folder is laid out like a benchmark (`ovseg.data.benchmarks.benchmark`). Each class present in
an image gives one mask, as in the paper's training on COCO-Stuff; pixels with the ignored label are
unknown.

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
    """The contents of a labelled folder.

    Attributes:
        images: number of images.
        unlabelled: number of images without a labelled pixel; they are not trained on.
        class_images: (K,) int64, number of images with each class.
    """

    images: int
    unlabelled: int
    class_images: NDArray[np.int64]


class LabelledSamples(Sequence[SegmentationSample]):
    """The images of a folder with a mask for each class present, read on access.

    Args:
        benchmark: names, images and label maps.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self._samples: Sequence[Sample] = benchmark.samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> SegmentationSample:  # type: ignore[override]
        """Read sample `index`; masks in the order of the classes.

        Raises:
            OvsegError: if the image or its label map cannot be used.
        """
        sample = self._samples[index]
        try:
            image = read_image(sample.image)
        except ImageError as error:
            raise OvsegError(f"{sample.image}: {error}; fix or remove it") from error
        try:
            labels = self.benchmark.labels(sample)
            _check_size(labels.shape, image.shape[:2])
        except LabelError as error:
            raise OvsegError(f"{sample.label}: {error}; fix it or remove its image") from error
        classes, masks = region_masks(labels, len(self.benchmark.classes))
        return SegmentationSample(
            image, masks, classes.astype(np.int64), labels != self.benchmark.ignore_index
        )

    def survey(self, *, workers: int = 0) -> Survey:
        """Read every label map and the header of every image, before training starts.

        Images without a labelled pixel are removed from the samples.

        Args:
            workers: number of threads; 0 reads in the calling thread.

        Raises:
            OvsegError: if a file cannot be used, or no pixel is labelled.
        """
        if workers:
            with ThreadPoolExecutor(workers) as pool:
                results = list(pool.map(self._classes_of, self._samples))
        else:
            results = [self._classes_of(sample) for sample in self._samples]
        bad = [each for each in results if isinstance(each, str)]
        if bad:
            raise OvsegError(
                f"{len(bad)} of {len(results)} labelled images cannot be used; the first: {bad[0]};"
                " fix them, or remove image and label map"
            )
        present = [each for each in results if not isinstance(each, str)]
        labelled = [sample for sample, classes in zip(self._samples, present) if len(classes)]
        if not labelled:
            raise OvsegError(
                f"no pixel of {len(results)} label maps is labelled: label maps must hold class"
                f" indices, 0 to {len(self.benchmark.classes) - 1}"
            )
        counts = np.bincount(np.concatenate(present), minlength=len(self.benchmark.classes))
        self._samples = labelled
        return Survey(
            images=len(results), unlabelled=len(results) - len(labelled), class_images=counts
        )

    def _classes_of(self, sample: Sample) -> NDArray[np.int32] | str:
        """Return the classes that occur in an image, or why it cannot be used."""
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
            f"the label map has {labels_hw[1]} x {labels_hw[0]} pixels, its image"
            f" {image_hw[1]} x {image_hw[0]}"
        )
