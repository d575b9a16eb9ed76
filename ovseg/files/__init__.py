"""Reading and writing of files: locations, tars, digests, atomic publishing."""
