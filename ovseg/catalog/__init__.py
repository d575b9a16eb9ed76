"""What analysts query: relations over manifests, views, queries, checks."""
