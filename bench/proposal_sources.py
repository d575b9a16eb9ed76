"""Recall and speed of every proposal source on the storybook's ground truth.

python -m bench proposal_sources
"""

from ovseg.config.registry import PROPOSERS, SEGMENTS
from ovseg.models.proposals.proposers import proposer
from ovseg.pretraining.maskformer_scores import validation_scenes
from ovseg.pretraining.proposal_recall import measure_proposals
from ovseg.storybook.categories import split

SCENES = 40


def main() -> None:
    """Print a row per source: masks, mean best IoU of categories and segments, seconds."""
    seen, _ = split(0)
    scenes = validation_scenes(SCENES)
    rows = [
        *(("maskformer", "storybook", segments) for segments in SEGMENTS),
        *(("maskformer", "storybook-mask2former", segments) for segments in SEGMENTS),
        *((name, "storybook", "queries") for name in PROPOSERS if name not in _NAMED),
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
