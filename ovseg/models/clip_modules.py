"""The modules that a CLIP is loaded and run with, for the code digests of stages that have one."""

CLIP_MODULES = (
    "ovseg.models.clip",
    "ovseg.models.clip_config",
    "ovseg.models.settings_files",
    "ovseg.models.open_clip_model",
    "ovseg.models.conv_clip",
    "ovseg.models.learned_prompts",
    "ovseg.models.prompts",
    "ovseg.models.mask_prompts",
    "ovseg.models.pixel_prompts",
    "ovseg.models.prompted_tower",
    "ovseg.models.pickle_machine",
    "ovseg.models.safe_pickle",
    "ovseg.models.torch_archives",
    "ovseg.models.weight_files",
    "ovseg.models.names",
    __name__,
)
