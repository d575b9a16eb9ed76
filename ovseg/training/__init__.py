"""Training: the mask-adapted CLIP and the class-embedding MaskFormer."""
