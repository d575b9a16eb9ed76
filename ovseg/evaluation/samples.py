"""The images of a benchmark with their label maps; unusable ones are counted.

    samples = UsableSamples(benchmark, benchmark.samples[span])
    for sample, image, labels in samples:
        ...
    stats = samples.stats()

The benchmark, the search for an ensemble weight and the learning curves all use this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.benchmark import Benchmark, Sample, load_benchmark
from ovseg.data.benchmarks.label_counts import LabelCounts
from ovseg.data.benchmarks.label_maps import LabelError, Labels
from ovseg.data.images import ImageArray, ImageError, read_image
from ovseg.errors import OvsegError


def open_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Open the configured benchmark.

    Raises:
        OvsegError: if it does not exist, or no pixel of any label map counts. Label maps are read
            up to the first with such a pixel, usually the first.
    """
    benchmark = load_benchmark(config.benchmark, config.root, limit=config.limit)
    counts = LabelCounts(benchmark.classes)
    for sample in benchmark.samples:
        try:
            counts.add(benchmark.labels(sample))
        except LabelError:
            continue  # counted with its reason when it is scored
        if counts.pixels.any():
            return benchmark
    if counts.nothing:
        raise OvsegError(
            f"benchmark {config.benchmark}, {config.root}: {counts.nothing}; `ovseg prepare --check"
            f" {config.benchmark}` says what its label maps hold"
        )
    return benchmark


def read_sample(benchmark: Benchmark, sample: Sample) -> tuple[ImageArray, Labels]:
    """Read an image `(H, W, 3)` and its label map `(H, W)`.

    Raises:
        ImageError: if the image cannot be used.
        LabelError: if the label map cannot be used, or has another size.
    """
    image, labels = read_image(sample.image), benchmark.labels(sample)
    if image.shape[:2] != labels.shape:
        raise LabelError("label map of another size than the image")
    return image, labels


class UsableSamples:
    """Samples of a benchmark, read one by one; those that cannot be used are counted.

    Args:
        benchmark: the benchmark they belong to.
        samples: the samples to read.
        progress: called with 1 once a sample has been processed.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        samples: Sequence[Sample],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.benchmark, self.samples, self.progress = benchmark, samples, progress
        self.reasons: Counter[str] = Counter()
        self.first_bad: str | None = None

    def __iter__(self) -> Iterator[tuple[Sample, ImageArray, Labels]]:
        """Yield each sample, its image `(H, W, 3)` uint8 and its label map `(H, W)`."""
        for sample in self.samples:
            try:
                image, labels = read_sample(self.benchmark, sample)
            except (ImageError, LabelError) as error:
                self.reasons[str(error)] += 1
                self.first_bad = self.first_bad or f"{sample.image.name}: {error}"
            else:
                yield sample, image, labels
            if self.progress is not None:
                self.progress(1)

    def stats(self) -> dict[str, Any]:
        """Return `n`, `bad`, `reasons` and `first_bad`, once all are read."""
        return {
            "n": len(self.samples),
            "bad": sum(self.reasons.values()),
            "reasons": dict(sorted(self.reasons.items())),
            "first_bad": self.first_bad,
        }
