"""What is known of one connection."""
