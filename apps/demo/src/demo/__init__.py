"""The main journey on real input, step by step."""
