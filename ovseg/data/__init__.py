"""Reading of external data: captions, images, vocabularies, benchmarks."""
