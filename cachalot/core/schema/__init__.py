"""Which tables there are, and what is known of them."""
