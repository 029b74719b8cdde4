"""Stand-ins for real servers, for measurements of what is around them."""
