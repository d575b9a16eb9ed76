"""ovseg: open-vocabulary semantic segmentation with mask-adapted CLIP."""

__version__ = "0.1.0"
