"""The embedded world: procedural picture-book scenes, their captions, and ground-truth masks.

Nothing here is downloaded. `scenes` draws a picture and its segments from a seed, `captions` writes
what a person might say about it, and `world` puts both on disk as a COCO dataset, so that the
storybook passes through the same code as COCO itself. It is a miniature: numbers measured on it say
that the machinery works, and are never set beside figures measured on photographs.
"""
