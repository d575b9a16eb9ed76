"""Captions per second through the noun extractor: batched, one by one, and with repeats.

python -m bench nouns
"""

from bench.timing import seconds
from ovseg.mining.nouns.mentions import extract, load_parser
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.storybook.captions import describe
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds


def main() -> None:
    """Print captions per second and the ratios."""
    nlp, stop = load_parser("storybook"), StopNouns.load()
    captions = [c for seed in scene_seeds("mining", 60) for c in describe(draw_scene(seed))]
    batched = seconds(lambda: extract(captions, nlp, stop_nouns=stop), runs=3)
    single = seconds(
        lambda: [extract([caption], nlp, stop_nouns=stop) for caption in captions], runs=3
    )
    repeated = seconds(lambda: extract(captions * 4, nlp, stop_nouns=stop), runs=3)
    print(f"  batched            {len(captions) / batched:8.0f} captions/s")
    print(f"  one by one         {len(captions) / single:8.0f} captions/s"
          f"   batched is {single / batched:.1f} x")  # fmt: skip
    print(f"  every one 4 times  {4 * len(captions) / repeated:8.0f} captions/s"
          f"   parsed once: {4 * batched / repeated:.1f} x")  # fmt: skip
