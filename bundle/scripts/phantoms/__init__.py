"""Synthetic scans, so that everything runs without any data. It may import `core`."""
