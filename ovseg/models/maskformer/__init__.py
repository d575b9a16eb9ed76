"""MaskFormer with class embeddings, and relatives of it."""
