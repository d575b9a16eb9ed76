"""Reading what others wrote: captions, images, vocabularies, benchmarks."""
