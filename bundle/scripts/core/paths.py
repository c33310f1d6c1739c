"""Paths of the bundle's own folders and files."""

from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[2]
CONFIGS = BUNDLE / "configs"
METADATA = CONFIGS / "metadata.json"
