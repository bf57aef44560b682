"""What a search in a short time could show."""
