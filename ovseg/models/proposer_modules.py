"""The modules that any proposal source is made of: what a stage that proposes has in its `code`."""

from ovseg.models.clip_modules import CLIP_MODULES

PROPOSER_MODULES = (
    "ovseg.data.masks",
    "ovseg.models.class_embedding",
    "ovseg.models.resnet",  # a backbone of it
    "ovseg.models.deep_stem_maskformer",
    "ovseg.models.maskformer",
    "ovseg.models.network_folders",
    *CLIP_MODULES,
    "ovseg.models.pixels",
    "ovseg.models.proposal_networks",
    "ovseg.models.segments",
    "ovseg.models.proposers",
    "ovseg.models.image_proposals",
    "ovseg.models.superpixels",
    "ovseg.models.patch_features",
    "ovseg.models.feature_clusters",
    "ovseg.models.maskcut",
    "ovseg.models.sam",
    __name__,
)
