"""Training networks on masks and labels."""
