"""What every proposal source finds of the storybook's ground truth, and in what time.

python -m benchmarks proposal_sources
"""

from ovseg.models.proposers import proposer
from ovseg.registry import PROPOSERS, SEGMENTS
from ovseg.storybook.catalogue import split
from ovseg.storybook.measure_maskformer import validation_scenes
from ovseg.storybook.measure_proposals import measure_proposals

SCENES = 40


def main() -> None:
    """Print a row a source: masks, mean best IoU of categories and segments, seconds."""
    seen, _ = split(0)
    scenes = validation_scenes(SCENES)
    rows = [
        *(("maskformer", "storybook", segments) for segments in SEGMENTS),
        *(("maskformer", "storybook-mask2former", segments) for segments in SEGMENTS),
        *((name, "storybook", "queries") for name in PROPOSERS if name not in _NAMED),
        ("sam", "random-sam", "queries"),
        ("sam", "random-sam2", "queries"),
    ]
    print(f"  {SCENES} validation scenes of the storybook; mean best IoU, seen / unseen")
    for source, weights, segments in rows:
        found = measure_proposals(proposer(source, weights, segments=segments), scenes, seen=seen)
        categories, single = (
            " / ".join(f"{found[f'{part} {grain}/mean best IoU']:.3f}" for part in _PARTS)
            for grain in ("category", "segment")
        )
        print(
            f"  {source:12s} {weights:22s} {segments:9s} {found['masks']:6.1f} masks"
            f"   category {categories}   segment {single}   {found['seconds']:.3f} s"
        )


_NAMED = ("maskformer", "sam")
_PARTS = ("seen", "unseen")
