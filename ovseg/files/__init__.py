"""Where bytes lie and how they are written: locations, tars, digests, atomic publishing."""
