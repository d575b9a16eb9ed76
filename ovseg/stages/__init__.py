"""The contract of a step, how it runs, and what it leaves: plan, shards, manifest, columns."""
