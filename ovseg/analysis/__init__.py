"""The analysts' side: the pair table, curation by SQL, the catalogue, reports."""
