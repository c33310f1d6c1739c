"""Time and peak memory of a training step and of an inference at full size, 256x256x128, and the effect of settings.

    python benchmarks/full_size.py [--size 256 256 128] [--batch 1] [--features 16] [--half] [--give_back]
    python benchmarks/full_size.py --size 128 128 64 --batch 2 --kinds step "channels last" "fused optimiser" compiled

Each kind runs in its own process, because the peak is that of a process. `step` is the usual training step,
`checkpointing` computes intermediate results again in the backward pass, `inference` is the network alone without
gradients; the others are steps with one change, `all three` with channels last, the fused optimiser and compiled. If
there is a GPU, it is used, in bfloat16 except for `float32`, `tf32` and `float16`; --peak, its specified speed in
TFLOP/s, adds the share of it that is reached. On a CPU freed memory is kept, as in every run (scripts/core/memory.py);
--give_back leaves it to the C library.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bundle"))

STEPS = ("step", "checkpointing", "inference")
CHANGES = ("channels last", "fused optimiser", "compiled", "all three", "CUDA graph", "float32", "tf32", "float16")
WARM = 2  # runs before those that count


def measure(kind: str, given: argparse.Namespace, results: multiprocessing.Queue) -> None:
    """Puts the median seconds of the runs and the peak memory in GiB, or the error, into the queue."""
    from scripts.core.memory import keep_freed

    if not given.give_back:
        keep_freed()
    try:
        run = prepared(kind, given)
        seconds = []
        for _ in range(WARM + given.repeats):
            began = time.perf_counter()
            run()
            if given.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak = torch.cuda.max_memory_allocated() if given.device == "cuda" else peak
        results.put((median(seconds[WARM:]), peak / 2**30))
    except RuntimeError as error:  # out of memory, no compiler, no such thing on this device
        results.put(next(filter(None, str(error).splitlines()), type(error).__name__))


def prepared(kind: str, given: argparse.Namespace) -> Callable[[], None]:
    """A run of a kind on data that lie on the device."""
    from monai.losses import DiceCELoss

    from scripts.networks.improved_unet import ImprovedUNet

    device, training = given.device, kind != "inference"
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    exact = kind in ("float32", "tf32")
    half = torch.float16 if kind == "float16" else torch.bfloat16
    low = not exact and (given.half or device == "cuda" or kind == "float16")
    network = ImprovedUNet(features=given.features, checkpointing=kind == "checkpointing").to(device).train(training)
    if kind in ("channels last", "all three"):
        network = network.to(memory_format=torch.channels_last_3d)
    captured = kind == "CUDA graph"
    fused = kind in ("fused optimiser", "all three")
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, fused=fused, capturable=captured)
    compute = torch.compile(network) if kind in ("compiled", "all three") else network
    scaler = torch.amp.GradScaler(device, enabled=kind == "float16")
    x = torch.randn(given.batch, 1, *given.size, device=device)
    y = torch.randint(6, (given.batch, 1, *given.size), device=device)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, lambda_ce=0.2)

    def run() -> None:
        with torch.set_grad_enabled(training), torch.autocast(device, half, enabled=low):
            scores = compute(x)
        if training:
            optimizer.zero_grad()
            scaler.scale(loss(scores.float(), y)).backward()
            scaler.step(optimizer)
            scaler.update()

    return graph_of(run) if captured else run


def graph_of(run: Callable[[], None]) -> Callable[[], None]:
    """The run as a graph that the GPU replays without a word from the processor."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def in_a_process(kind: str, given: argparse.Namespace, context: multiprocessing.context.BaseContext) -> dict | str:
    """Seconds, GiB and operations a second of a kind, or why there are none."""
    results = context.Queue()
    process = context.Process(target=measure, args=(kind, given, results))
    process.start()
    process.join()
    if process.exitcode:
        return f"killed ({process.exitcode}), most likely out of memory"
    found = results.get()
    if isinstance(found, str):
        return found
    return {"seconds": found[0], "gib": found[1], "flops": operations(kind, given) / found[0]}


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
    parser.add_argument("--kinds", nargs="+", choices=STEPS + CHANGES, default=STEPS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--half", action="store_true", help="bfloat16 on a CPU, too")
    parser.add_argument("--give_back", action="store_true", help="don't keep memory that was freed")
    parser.add_argument("--peak", type=float, help="of the hardware in TFLOP/s")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    marks = f"{', bfloat16' if given.half else ''}{', freed memory given back' if given.give_back else ''}"
    print(f"batch {given.batch} of {given.size}, {given.features} features{marks}")
    for kind in given.kinds:
        found = in_a_process(kind, given, multiprocessing.get_context("spawn"))
        if not isinstance(found, str):
            share = f", {100 * found['flops'] / 1e12 / given.peak:.0f} % of the peak" if given.peak else ""
            rate = f"{found['flops'] / 1e12:.2f} TFLOP/s{share}"
            found = f"{found['seconds']:>7.2f} s   {found['gib']:>5.1f} GiB   {rate}"
        print(f"{kind:<16} {found}", flush=True)


if __name__ == "__main__":
    main()
