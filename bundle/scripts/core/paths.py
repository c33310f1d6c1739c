"""Folders and files of the bundle itself."""

from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[2]
CONFIGS = BUNDLE / "configs"
METADATA = CONFIGS / "metadata.json"
