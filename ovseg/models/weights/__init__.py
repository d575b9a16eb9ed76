"""Read foreign weights and settings without running them."""
