"""Time and peak memory of a training step and of an inference at full size, 256x256x128, and the effect of settings.

    python benchmarks/full_size.py [--size 256 256 128] [--batch 1] [--features 16] [--half] [--give_back]
    python benchmarks/full_size.py --size 128 128 64 --batch 2 --kinds step "channels last" "fused optimiser" compiled

Each kind runs in its own process, because the peak is that of a process. `step` is the usual training step,
`checkpointing` computes intermediate results again in the backward pass, `inference` is the network alone without
gradients; the others are steps with one change. If there is a GPU, it is used, in bfloat16 except for `float32` and
`tf32`; --peak, its specified speed in TFLOP/s, adds the share of it that is reached. On a CPU freed memory is kept, as
in every run (scripts/core/memory.py); --give_back leaves it to the C library.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bundle"))

KINDS = ("step", "checkpointing", "inference", "channels last", "fused optimiser", "compiled", "float32", "tf32")
WARM = 2  # runs before those that count


def measure(kind: str, given: argparse.Namespace, results: multiprocessing.Queue) -> None:
    """Puts the median seconds of the runs and the peak memory in GiB, or the error, into the queue."""
    from monai.losses import DiceCELoss

    from scripts.core.memory import keep_freed
    from scripts.networks.improved_unet import ImprovedUNet

    if not given.give_back:
        keep_freed()
    device, training = "cuda" if torch.cuda.is_available() else "cpu", kind != "inference"
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    half = kind not in ("float32", "tf32") and (given.half or device == "cuda")
    network = ImprovedUNet(features=given.features, checkpointing=kind == "checkpointing").to(device).train(training)
    if kind == "channels last":
        network = network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, fused=kind == "fused optimiser")
    run = torch.compile(network) if kind == "compiled" else network
    x = torch.randn(given.batch, 1, *given.size, device=device)
    y = torch.randint(6, (given.batch, 1, *given.size), device=device)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, lambda_ce=0.2)
    seconds = []
    try:
        for _ in range(WARM + given.repeats):
            began = time.perf_counter()
            with torch.set_grad_enabled(training), torch.autocast(device, torch.bfloat16, enabled=half):
                scores = run(x)
            if training:
                optimizer.zero_grad()
                loss(scores.float(), y).backward()
                optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak
        results.put((median(seconds[WARM:]), peak / 2**30))
    except (torch.OutOfMemoryError, RuntimeError) as error:
        results.put(next(filter(None, str(error).splitlines()), type(error).__name__))


def operations(kind: str, given: argparse.Namespace) -> int:
    """Floating-point operations of the convolutions of a run, counted without computing them."""
    from scripts.networks.improved_unet import ImprovedUNet

    network = ImprovedUNet(features=given.features).to("meta")
    with FlopCounterMode(display=False) as counter:
        scores = network(torch.empty(given.batch, 1, *given.size, device="meta"))
        if kind != "inference":
            scores.sum().backward()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS[:3])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--half", action="store_true", help="bfloat16 on a CPU, too")
    parser.add_argument("--give_back", action="store_true", help="don't keep memory that was freed")
    parser.add_argument("--peak", type=float, help="of the hardware in TFLOP/s")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    marks = f"{', bfloat16' if given.half else ''}{', freed memory given back' if given.give_back else ''}"
    print(f"batch {given.batch} of {given.size}, {given.features} features{marks}")
    for kind in given.kinds:
        results = context.Queue()
        process = context.Process(target=measure, args=(kind, given, results))
        process.start()
        process.join()
        found = f"killed ({process.exitcode}), most likely out of memory" if process.exitcode else results.get()
        shown = found
        if not isinstance(found, str):
            rate = operations(kind, given) / found[0] / 1e12
            share = f", {100 * rate / given.peak:.0f} % of the peak" if given.peak else ""
            shown = f"{found[0]:>7.2f} s   {found[1]:>5.1f} GiB   {rate:.2f} TFLOP/s{share}"
        print(f"{kind:<16} {shown}", flush=True)


if __name__ == "__main__":
    main()
