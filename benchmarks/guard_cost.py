"""The cost of the checks in a run without faults: ratio of the times with and without them.

    python benchmarks/guard_cost.py [--size 256 256 128] [--cases 3] [--repeats 3]

For inference: with and without the check of every file and the digest of every input, by the clock and in processor
time. For training: what the digests and the previous checkpoint add to the time of saving, as a share of an epoch with
the shipped settings.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from common import inference, now, since, training


def timed(data: Path, models: Path, out: Path) -> tuple[float, float]:
    """Seconds from the first case to the last file, by the clock and in processor time."""
    made = inference(data, models, out)
    began = now()
    made.run()
    made.finalize()
    return since(began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    from scripts.inference import skipping
    from scripts.networks.improved_unet import ImprovedUNet
    from scripts.phantoms import generate
    from scripts.training import checkpoint_files, weights_info

    checked, digested = skipping.find_faults, skipping.sha256_of_files
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate.generate(root / "data", patients=given.cases, scans=1, size=tuple(given.size))
        names = list(generate.CLASSES)
        network = ImprovedUNet(out_channels=len(names), features=16, dropout=0.3)
        weights_info.write_weights(network.state_dict(), {"class_names": names}, root / "model.pt")
        times: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        for _ in range(given.repeats):
            for kind, seconds in times.items():
                skipping.find_faults = checked if kind == "with" else lambda *_: []
                skipping.sha256_of_files = digested if kind == "with" else lambda *_: ""
                seconds.append(timed(root / "data", root, root / "out"))
        print(f"inference, {given.cases} cases of {given.size}, median of {given.repeats}")
        for part, name in enumerate(("by the clock", "of the processors")):
            guarded, plain = (median(pair[part] for pair in times[k]) / given.cases for k in ("with", "without"))
            print(f"  {name}: {guarded:.2f} s a case, without guards {plain:.2f} s, ratio {guarded / plain:.3f}")
    with training(["train.json", "demo.json"], 8, 2, (64, 64, 32), features=16, epochs=1) as made:
        state = {"model": made.parser.get_parsed_content("network").state_dict()}
        trainer = made.parser.get_parsed_content("train::trainer")
        began = time.perf_counter()
        trainer.run()
        epoch = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            saves: dict[str, list[float]] = {"with": [], "without": []}
            for _ in range(2 * given.repeats + 1):
                for kind, seconds in saves.items():
                    began = time.perf_counter()
                    if kind == "with":
                        checkpoint_files.write_checkpoint(
                            state, Path(folder) / "last.pt", Path(folder) / "last.previous.pt"
                        )
                    else:
                        torch.save(state, Path(folder) / "plain.pt")
                    seconds.append(time.perf_counter() - began)
    added = median(saves["with"]) - median(saves["without"])
    print(
        f"training, full width at 64x64x32, 12 cases: an epoch {epoch:.1f} s, a guarded save {added:.2f} s more, ",
        end="",
    )
    print(f"{100 * added / epoch:.1f} %")


if __name__ == "__main__":
    main()
