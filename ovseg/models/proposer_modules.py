"""The modules that any proposal source is made of: what a stage that proposes has in its `code`."""

PROPOSER_MODULES = (
    "ovseg.data.masks",
    "ovseg.models.class_embedding",
    "ovseg.models.resnet",  # a backbone of it
    "ovseg.models.deep_stem_maskformer",
    "ovseg.models.maskformer",
    "ovseg.models.network_folders",
    "ovseg.models.names",
    "ovseg.models.pixels",
    "ovseg.models.proposal_networks",
    "ovseg.models.segments",
    "ovseg.models.proposers",
    "ovseg.models.image_proposals",
    "ovseg.models.superpixels",
    "ovseg.models.patch_features",
    "ovseg.models.clip",  # whose patches may be cut or clustered
    "ovseg.models.learned_prompts",
    "ovseg.models.prompts",
    "ovseg.models.mask_prompts",
    "ovseg.models.pixel_prompts",
    "ovseg.models.prompted_tower",
    "ovseg.models.safe_pickle",
    "ovseg.models.weight_files",
    "ovseg.models.feature_clusters",
    "ovseg.models.maskcut",
    "ovseg.models.sam",
    __name__,
)
