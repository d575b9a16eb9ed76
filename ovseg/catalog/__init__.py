"""The analysts' catalog: relations over manifests, views, queries, checks."""
