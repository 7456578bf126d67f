"""An engine on a GPU under random requests for minutes: nothing fails, memory stays flat, the pool's integrity holds.

usage: gpu_long_run.py [SHAPE] [FLOW...] [--seconds 240] [--pages 12000] [--batch 64] [--longest 32000] [--seed 1] [--device cuda]

Prompts have 1 to --longest tokens (log-uniform), every third begins with one of eight prefixes; answers have 1 to 1,500 tokens. Requests go through
the flows and full attention in turn, one in eight is sampled (one of four such by the host), one in ten is aborted at some moment. The pool is too small for all that run, so
that some are preempted. Weights are made up. Memory is compared from a fifth of the time on, when every graph has been captured.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time

from vortex_attention import _core, flows
from vortex_attention.models import load_model

EVERY = 5.0  # seconds between two looks at memory and integrity
HOST_GROWTH, DEVICE_GROWTH = 256e6, 64e6  # bytes that memory may grow by: allocators', not ours
SETTLED = 0.2  # of the time, after which memory is flat


def host_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def device_bytes(device: str) -> int:
    if device != "cuda":
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]) << 20


class Requests:
    """What is asked, drawn from a seed."""

    def __init__(self, seed: int, vocabulary: int, longest: int, ids: list[int]):
        self.random, self.vocabulary, self.longest, self.ids = random.Random(seed), vocabulary, longest, ids
        sizes = [max(1, min(longest // 2, 32 << n)) for n in range(8)]
        self.prefixes = [self.tokens(size) for size in sizes]

    def tokens(self, count: int) -> list[int]:
        return [self.random.randrange(self.vocabulary) for _ in range(count)]

    def next(self, number: int) -> dict:
        rng = self.random
        count = max(1, int(math.exp(rng.uniform(0.0, math.log(self.longest)))))
        prompt = self.tokens(count)
        if number % 3 == 0:
            prompt = (rng.choice(self.prefixes) + prompt)[: self.longest]
        sampling = {"temperature": 0.8, "top_p": 0.95, "seed": number} if rng.random() < 0.125 else {}
        if sampling and rng.random() < 0.25:
            sampling["presence_penalty"] = 0.5  # what the device does not draw itself
        return {"prompt": prompt, "max_new_tokens": rng.randint(1, 1500), "sampling": _core.SamplingParams(**sampling),
                "flow": self.ids[number % len(self.ids)]}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", default="qwen3-0.6b")
    parser.add_argument("flows", nargs="*", default=("centroid", "quest"))
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--pages", type=int, default=12_000, help="of 16 tokens, in the pool")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--longest", type=int, default=32_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    chosen = parser.parse_intermixed_args()
    loaded = load_model(chosen.shape, load_format="dummy", device=chosen.device)
    config = _core.EngineConfig(
        pages=chosen.pages,
        max_batch=chosen.batch,
        max_context=min(chosen.longest + 1536, loaded.config.context),
        chunk_tokens=loaded.chunk_tokens,
    )
    engine = _core.Engine(loaded.model, config)
    ids = [-1, *(engine.load_flow(flows.load_flow(name)) for name in chosen.flows)]
    asked = Requests(chosen.seed, loaded.config.vocabulary, chosen.longest, ids)
    rng = random.Random(chosen.seed + 1)
    live: dict[int, int] = {}  # request: tokens it still may say
    submitted = finished = aborted = tokens = 0
    looks: list[tuple[float, int, int]] = []
    problems: list[str] = []
    began = last = time.monotonic()
    while time.monotonic() - began < chosen.seconds or not engine.idle:
        now = time.monotonic()
        if now - began < chosen.seconds:
            while len(live) < 2 * chosen.batch:
                request = asked.next(submitted)
                live[engine.submit(**request)] = request["max_new_tokens"]
                submitted += 1
        if live and rng.random() < 0.002:
            gone = rng.choice(list(live))
            aborted += engine.abort(gone)
        for event in engine.step():
            if event.token >= 0:
                tokens += 1
                live[event.request] -= 1
                if live[event.request] < 0 or event.token >= loaded.config.vocabulary:
                    problems.append(f"request {event.request} says too much: token {event.token}")
            if event.finished != "none":
                finished += 1
                live.pop(event.request)
                if event.finished == "failed":
                    problems.append(f"request {event.request} failed")
        if now - last >= EVERY:
            last = now
            engine.check_integrity()
            looks.append((now - began, host_bytes(), device_bytes(chosen.device)))
            print(f"[{now - began:6.1f} s] {submitted} requests, {finished} ended, {aborted} aborted, {tokens} tokens, host "
                  f"{looks[-1][1] / 1e6:.0f} MB, device {looks[-1][2] / 1e6:.0f} MB", flush=True)  # fmt: skip
    engine.check_integrity()
    seen = engine.statistics()
    if live or finished != submitted:
        problems.append(f"{submitted} requests, {finished} of them ended")
    settled = [look for look in looks if look[0] >= SETTLED * chosen.seconds]
    for place, what, limit in ((1, "host", HOST_GROWTH), (2, "device", DEVICE_GROWTH)):
        if settled and settled[-1][place] - settled[0][place] > limit:
            problems.append(f"{what} memory grew from {settled[0][place]} to {settled[-1][place]} bytes")
    facts = {name: getattr(seen, name) for name in ("steps", "prefill_tokens", "decode_tokens", "prefix_hit_tokens",
             "preemptions", "restores", "evicted_pages", "copied_pages", "rebuilt_summaries", "device_choices", "host_choices")}  # fmt: skip
    print(json.dumps({"device": loaded.model.device, "shape": loaded.name, "seconds": chosen.seconds, "requests": submitted,
                      "aborted": aborted, "tokens": tokens, "memory": settled[:1] + settled[-1:], "problems": problems, **facts}))  # fmt: skip
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
