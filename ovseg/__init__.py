"""ovseg: open-vocabulary semantic segmentation with mask-adapted CLIP."""

from ovseg.files import renamed

__version__ = "0.1.0"

renamed.install()
