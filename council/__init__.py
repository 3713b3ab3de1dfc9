"""How a council deliberates."""
