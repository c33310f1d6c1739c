"""Synthetic scans with labels, so that everything can be tried and tested without any data."""
