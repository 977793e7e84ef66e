"""The dashboard of a real service in a real browser."""
