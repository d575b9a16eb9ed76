"""What every proposal source finds of the storybook's ground truth, and in what time.

python -m benchmarks proposal_sources
"""

import tempfile
from pathlib import Path

from ovseg.models.proposers import PROPOSERS, proposer
from ovseg.models.sam import write_random_sam
from ovseg.models.segments import SEGMENTS
from ovseg.storybook.catalogue import split
from ovseg.storybook.measure_maskformer import validation_scenes
from ovseg.storybook.measure_proposals import measure_proposals

SCENES = 40


def main() -> None:
    """Print a row a source: masks, mean best IoU of categories and segments, seconds."""
    seen, _ = split(0)
    scenes = validation_scenes(SCENES)
    with tempfile.TemporaryDirectory() as folder:
        random = str(write_random_sam(Path(folder) / "sam"))
        rows = [
            *(("maskformer", "storybook", segments) for segments in SEGMENTS),
            *(("maskformer", "storybook-mask2former", segments) for segments in SEGMENTS),
            *((name, "storybook", "queries") for name in PROPOSERS if name not in _NAMED),
            ("sam", random, "queries"),
        ]
        print(f"  {SCENES} validation scenes of the storybook; mean best IoU, seen / unseen")
        for source, weights, segments in rows:
            shown = scenes[:4] if source == "sam" else scenes
            found = measure_proposals(
                proposer(source, weights, segments=segments), shown, seen=seen
            )
            categories, single = (
                " / ".join(f"{found[f'{part} {grain}/mean best IoU']:.3f}" for part in _PARTS)
                for grain in ("category", "segment")
            )
            name = "random, not scored" if source == "sam" else weights
            print(
                f"  {source:12s} {name:22s} {segments:9s} {found['masks']:6.1f} masks"
                f"   category {categories}   segment {single}   {found['seconds']:.3f} s"
            )


_NAMED = ("maskformer", "sam")
_PARTS = ("seen", "unseen")
