"""The modules that a CLIP is loaded and run with, for the code digests of stages that have one."""

CLIP_MODULES = (
    "ovseg.models.clip",
    "ovseg.models.open_clip_model",
    "ovseg.models.conv_clip",
    "ovseg.models.learned_prompts",
    "ovseg.models.prompts",
    "ovseg.models.mask_prompts",
    "ovseg.models.pixel_prompts",
    "ovseg.models.prompted_tower",
    "ovseg.models.safe_pickle",
    "ovseg.models.weight_files",
    "ovseg.models.names",
    __name__,
)
