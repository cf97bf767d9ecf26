"""The catalog: categories, products and their prices."""
