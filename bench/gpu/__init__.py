"""What a GPU reaches with networks of the paper's size: rates, shares of its peak, memory."""
