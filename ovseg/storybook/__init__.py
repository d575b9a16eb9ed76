"""The embedded world: procedural picture-book scenes, their captions, and ground-truth masks.

Nothing is downloaded. `scenes` draws an image and its segments from a seed, `captions` describes it
like a person would, and `world` writes both to disk as a COCO dataset, so that the storybook passes
through the same code as COCO itself. It is a miniature: its scores show that the machinery works,
and are never compared with scores on photographs.
"""
