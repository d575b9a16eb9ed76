"""Mining: from captions and images to pairs of a noun and a masked region."""
