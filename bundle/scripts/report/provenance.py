"""What a report was made from: model, checkpoint, data, versions, device. A reader must be able to make it again."""

import json
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import monai
import numpy as np
import torch
from monai.utils import ensure_tuple

from scripts.core.paths import METADATA
from scripts.data.digests import sha256_of_files
from scripts.data.slices import is_picture
from scripts.training.weights import origin, read_weights


def of_model(network: torch.nn.Module, weights: str | Sequence[str]) -> tuple[list[list[str]], dict]:
    """Lines on the network and its weights, and what is known of the weights; of several files, of the first."""
    found = [read_weights(file) for file in ensure_tuple(weights)]
    info = found[0].info
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        ["Model", f"{type(network).__name__}, {parameters:,} parameters"],
        ["Trained on", origin(info, 4)],
        *(["Checkpoint", f"{file}, sha256 {sha256_of_files(file)}"] for one in found for file in one.files),
    ]
    return lines, info


def of_pixels(images: Iterable[str | Path]) -> list[list[str]]:
    """A line for images whose files don't say how large a pixel is."""
    known = not any(map(is_picture, images))
    return [] if known else [["Pixel size", "not known; 1 mm is assumed, so figures in mm and ml count pixels"]]


def of_run(device: str | torch.device, seconds: Sequence[float]) -> list[list[str]]:
    """Lines on when and where: date, versions, device, time per case."""
    version = json.loads(METADATA.read_text(encoding="utf-8"))["version"] if METADATA.is_file() else "unknown"
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [
        ["Date", time.strftime("%Y-%m-%d %H:%M %Z")],
        [
            "Versions",
            f"bundle {version}, MONAI {monai.__version__}, PyTorch {torch.__version__}, NumPy {np.__version__}, "
            f"Python {platform.python_version()}",
        ],
        ["Device", name],
    ]
    if seconds:
        middle, longest = np.median(seconds), max(seconds)
        lines.append(["Time per case", f"{middle:.2f} s median, {longest:.2f} s longest (read, network, resample)"])
    return lines
