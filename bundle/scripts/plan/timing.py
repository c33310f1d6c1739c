"""What a step of a training costs on this machine: some are done, with the network and the loss of the plan."""

import json
import logging
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from monai.utils import set_determinism

from scripts.core.errors import NO_MEMORY, UserError
from scripts.core.memory import keep_freed, peak_memory
from scripts.core.paths import CONFIGS

logger = logging.getLogger(__name__)

VALIDATIONS = 20  # of a training, at most
LOOKS = 20  # at each validation case in the end, from which the training learns how good results are
STEPS = 3  # that are timed, after one that isn't
SAMPLES = 8  # images that are augmented for the clock: each step of the chain is done by chance


@dataclass(frozen=True)
class Cost:
    """What a plan costs on this machine.

    Args:
        step: seconds of a step of the training, with the random changes of its images.
        scoring: seconds for the scores of an image, as in validation.
        gib: memory that the steps took, in GiB.
    """

    step: float
    scoring: float
    gib: float


def measure_apart(patch: Mapping, shape: Sequence[int]) -> Cost:
    """Times a plan in a process of its own, whose memory no other plan has used before. Where memory runs out in it, no
    time and no memory are enough.

    Raises:
        UserError: the process has failed for another reason.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__],
        input=json.dumps({"patch": dict(patch), "shape": list(shape)}),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return Cost(**json.loads(done.stdout.splitlines()[-1]))
    lines = done.stderr.splitlines()
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]  # the cause first
    if done.returncode < 0 or any(words in line.lower() for line in errors for words in (*NO_MEMORY, "memoryerror")):
        logger.info(f"memory ran out in a step, or its process was ended: {(errors or ['no reason is known'])[0]}")
        return Cost(math.inf, math.inf, math.inf)
    raise UserError(f"a step of the plan can't be tried: {(errors or [f'exit status {done.returncode}'])[0]}")


def measure(patch: Mapping, shape: Sequence[int]) -> Cost:
    """Times a plan. The memory that it finds is right where no other was timed in this process.

    Args:
        patch: the plan, as a patch on train.json.
        shape: of the images that the random changes are given; the network may see parts of them.
    """
    keep_freed()
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    parser.update(dict(patch))
    parser["train::dataloader"] = [0]  # nothing but its length is asked for
    set_determinism(0)
    get = parser.get_parsed_content
    size, device, dims = get("spatial_size"), get("device"), get("spatial_dims")
    network, loss, optimizer, inferer = (get(name) for name in ("network", "loss", "optimizer", "train::inferer"))
    batch = get("batch_size")
    images = torch.randn(batch, get("in_channels"), *size, device=device)
    labels = torch.randint(len(get("class_names")), (batch, 1, *size), device=device)
    before = peak_gib(device)

    def train() -> None:
        optimizer.zero_grad()
        loss(inferer(images, network), labels).backward()
        optimizer.step()

    def score() -> None:
        with torch.no_grad():
            inferer(images[:1], network)

    train()
    steps = median(seconds(train, device) for _ in range(STEPS))
    gib = max(0.0, peak_gib(device) - before)
    scoring = median(seconds(score, device) for _ in range(STEPS))
    shape = [*shape, 1] if dims == 2 else shape
    chain = Compose(get("random_chain"))
    sample = {"image": torch.randn(get("in_channels"), *shape), "label": torch.zeros(1, *shape)}
    sample["label"][..., shape[-1] // 2 :] = 1
    changing = sum(seconds(lambda: chain(dict(sample)), device) for _ in range(SAMPLES)) / SAMPLES
    set_determinism(None)
    return Cost(steps + batch * changing, scoring, gib)


def seconds(work, device: torch.device) -> float:
    """Seconds that a piece of work takes on a device; not those in which other programs had the processor."""
    began, computed = time.perf_counter(), time.process_time()
    work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter() - began
    return min(time.perf_counter() - began, time.process_time() - computed)


def peak_gib(device: torch.device) -> float:
    """The most memory that was in use so far, in GiB."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_memory() / 2**30


def affordable(cost: Cost, minutes: float, training: int, validation: int, share: float = 0.9) -> int:
    """Epochs that fit into the minutes.

    Args:
        cost: of a step.
        minutes: that the training may take.
        training: steps of an epoch.
        validation: windows of images that are scored in VALIDATIONS of the epochs, and looked at in the end.
        share: of the minutes; the rest is for reading, writing and chance.
    """
    scoring = validation * cost.scoring
    left = share * 60 * minutes - LOOKS * scoring
    epochs = left / (training * cost.step + scoring)
    if epochs > VALIDATIONS:
        epochs = (left - VALIDATIONS * scoring) / (training * cost.step)
    return max(1, math.floor(epochs)) if math.isfinite(epochs) else 1


if __name__ == "__main__":
    print(json.dumps(asdict(measure(**json.load(sys.stdin)))))
