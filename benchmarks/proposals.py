"""Images a second through a MaskFormer, by batch size, with masks brought to full resolution.

python -m benchmarks proposals
"""

from benchmarks.timing import seconds
from ovseg.models.maskformer import load_maskformer
from ovseg.models.names import resolve_device
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds


def main() -> None:
    """Print images a second and the ratio to batches of one."""
    network = load_maskformer("storybook", resolve_device("auto"))
    images = [draw_scene(seed).image for seed in scene_seeds("mining", 16)]
    alone = 0.0
    for batch in (1, 4, 16):
        parts = [images[start : start + batch] for start in range(0, len(images), batch)]
        took = seconds(lambda parts=parts: [network.propose(part) for part in parts], runs=3)
        alone = alone or took
        print(f"  batch {batch:2d}: {len(images) / took:6.1f} images/s   {alone / took:.1f} x")
