"""CLIP with mask prompts: loading, towers, everything that is prompted."""
