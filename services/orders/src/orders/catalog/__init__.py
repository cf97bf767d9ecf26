"""The catalog: what is for sale and for how much."""
