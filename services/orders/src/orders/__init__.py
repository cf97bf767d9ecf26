"""Catalog, checkout and order sagas."""
