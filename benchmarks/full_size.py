"""One training step and one inference at full size, 256x256x128: time and peak memory.

    python benchmarks/full_size.py [--size 256 256 128] [--batch 1] [--features 16] [--half] [--give_back]

Each in a process of its own, so that the peak is its own: a step as it is, a step with checkpointing (inner results are
computed again in the backward pass), and the network alone without gradients. On a GPU where there is one, in mixed
precision as in training. On a CPU memory that was freed is kept, as every run does (scripts/memory.py); --give_back
leaves that to the C library.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bundle"))

KINDS = ("training step", "training step, checkpointing", "inference")


def measure(kind: str, given: argparse.Namespace, results: multiprocessing.Queue) -> None:
    """Puts seconds and peak memory in GiB, of the last of three runs, or what went wrong."""
    from monai.losses import DiceCELoss
    from scripts.improved_unet import ImprovedUNet
    from scripts.memory import keep_freed

    if not given.give_back:
        keep_freed()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ImprovedUNet(features=given.features, checkpointing="checkpointing" in kind).to(device)
    network.train("training" in kind)
    x = torch.randn(given.batch, 1, *given.size, device=device)
    y = torch.randint(6, (given.batch, 1, *given.size), device=device)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, lambda_ce=0.2)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    try:
        for _ in range(3):
            began = time.perf_counter()
            with (
                torch.set_grad_enabled("training" in kind),
                torch.autocast(device, torch.bfloat16, enabled=given.half or device == "cuda"),
            ):
                scores = network(x)
            if "training" in kind:
                optimizer.zero_grad()
                loss(scores.float(), y).backward()
                optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        results.put((seconds, (torch.cuda.max_memory_allocated() if device == "cuda" else peak) / 2**30))
    except (torch.OutOfMemoryError, RuntimeError) as error:
        results.put(str(error).splitlines()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--half", action="store_true", help="bfloat16 on a CPU, too")
    parser.add_argument("--give_back", action="store_true", help="don't keep memory that was freed")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    marks = f"{', bfloat16' if given.half else ''}{', freed memory given back' if given.give_back else ''}"
    print(f"batch {given.batch} of {given.size}, {given.features} features{marks}")
    for kind in KINDS:
        results = context.Queue()
        process = context.Process(target=measure, args=(kind, given, results))
        process.start()
        process.join()
        found = f"killed ({process.exitcode}), most likely out of memory" if process.exitcode else results.get()
        shown = found if isinstance(found, str) else f"{found[0]:>6.1f} s   {found[1]:>5.1f} GiB"
        print(f"{kind:<30} {shown}", flush=True)


if __name__ == "__main__":
    main()
