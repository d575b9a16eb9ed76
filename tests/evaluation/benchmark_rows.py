"""What a benchmark's stage leaves, read back."""

import pyarrow.parquet as pq

from ovseg.evaluation.metrics import Confusion
from ovseg.stages.manifest import Manifest

CLASSES = ("house", "tree", "sea", "moon")


def read_confusion(benchmark: Manifest) -> Confusion:
    """The confusion matrix of all images of a benchmark's run."""
    k = len(benchmark.stats["class_names"])
    total = Confusion(k, ignore=-1)  # rows hold K for ignored pixels, whatever the label was
    for path in benchmark.paths():
        table = pq.read_table(path / "confusion.parquet")
        total.add_counts(
            *(table[name].to_numpy() for name in ("gt_class", "predicted_class", "pixels"))
        )
    return total


def all_rows(manifest, name):
    return [row for path in manifest.paths() for row in pq.read_table(path / name).to_pylist()]
