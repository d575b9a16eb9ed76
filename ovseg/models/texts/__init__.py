"""Texts of classes: templates, prompts, synonyms, relations."""
