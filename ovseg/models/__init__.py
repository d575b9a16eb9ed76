"""The networks: mask-adapted CLIP, MaskFormer, and the segmentor that joins them."""
