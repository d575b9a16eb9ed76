"""Published checkpoints: imported, exported, their names translated."""
