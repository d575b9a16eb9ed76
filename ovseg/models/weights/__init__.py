"""Reading weights and settings that others wrote, without running them."""
