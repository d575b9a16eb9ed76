"""Nouns of captions: parsed, lemmatized, gated, embedded."""
