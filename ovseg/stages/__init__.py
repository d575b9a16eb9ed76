"""Stages: their contract, how they run, and what they leave: plan, shards, manifest, columns."""
