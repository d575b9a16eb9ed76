"""The paper's tables, and the field's: cells as settings, and what is claimed of them."""
