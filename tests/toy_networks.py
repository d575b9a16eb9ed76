"""A segmentation network small enough to be made in a test, as wide as the tiny CLIP's texts."""

from ovseg.models.maskformer.open_vocabulary import Architecture

TINY = Architecture(
    backbone="resnet",
    backbone_dim=8,
    depths=(1, 1, 1),
    heads=(),
    feature_dim=32,
    mask_dim=32,
    query_dim=32,
    decoder_layers=1,
    decoder_heads=2,
    class_hidden_dim=32,
    embedding_dim=16,
)
