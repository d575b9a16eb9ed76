"""What CLIP sees of a mask, and what embeds it."""
