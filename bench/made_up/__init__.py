"""Published results of any number of pairs, made up but shaped like mined ones."""
