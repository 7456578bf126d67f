"""Answers a second of an engine that is kept full, with steps launched before the tokens of the one before are read and without.

usage: gpu_serving.py [SHAPE] [FLOW...] [--requests 8 64] [--context 4096] [--tokens 192] [--rounds 3] [--sampled]

Each arm prefills as many requests as run at once, then measures decoding alone: from the step after the last prompt until the first answer ends.
Arms alternate: without, with, with, without. Weights are made up. The host's part is what `Engine.step` and a Python loop over its events take.
"""

import argparse
import json
import random
import statistics
import time

from vortex_attention import _core, flows
from vortex_attention.models import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", default="qwen3-1.7b")
    parser.add_argument("flows", nargs="*", default=("centroid",))
    parser.add_argument("--requests", type=int, nargs="+", default=(8, 64))
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=192, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sampled", action="store_true", help="temperature 0.8 and top_p 0.95, drawn on the device")
    parser.add_argument("--device", default="cuda")
    chosen = parser.parse_intermixed_args()
    loaded = load_model(chosen.shape, load_format="dummy", device=chosen.device)
    rng = random.Random(1)
    vocabulary = loaded.config.vocabulary
    sampling = _core.SamplingParams(temperature=0.8, top_p=0.95) if chosen.sampled else _core.SamplingParams()

    def engine_of(count: int, overlap: bool) -> tuple[_core.Engine, list[int]]:
        pages = count * (-(-(chosen.context + chosen.tokens) // 16) + 1)
        engine = _core.Engine(loaded.model, _core.EngineConfig(pages=pages, max_batch=count, chunk_tokens=2048, prefix_cache=False,
                                                               max_context=chosen.context + chosen.tokens + 16, overlap=overlap))  # fmt: skip
        return engine, [-1, *(engine.load_flow(flows.load_flow(name)) for name in chosen.flows)]

    def seconds_a_step(engine: _core.Engine, flow: int, count: int) -> float:
        """Of decode steps with all requests in them."""
        for _ in range(count):
            # Lengths differ by up to a page, so that pages end in different steps.
            prompt = [rng.randrange(vocabulary) for _ in range(chosen.context - rng.randrange(16))]
            engine.submit(prompt, max_new_tokens=chosen.tokens, sampling=sampling, flow=flow)
        said = 0
        took: list[float] = []
        began, ended = time.perf_counter(), 0
        while not engine.idle:
            events = engine.step()
            now = time.perf_counter()
            said += len(events)
            ended += sum(event.finished != "none" for event in events)
            if len(events) == count and ended == 0:
                took.append(now - began)
            began = now
        return statistics.fmean(took[8:])  # graphs and summaries are there

    for count in chosen.requests:
        arms = {overlap: engine_of(count, overlap) for overlap in (False, True)}
        for place, name in enumerate(("full attention", *chosen.flows)):
            blocks: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(chosen.rounds):
                for overlap in (False, True, True, False):
                    engine, ids = arms[overlap]
                    blocks[overlap].append(seconds_a_step(engine, ids[place], count))
            without, with_it = (statistics.median(blocks[overlap]) for overlap in (False, True))
            print(json.dumps({"shape": loaded.name, "device": loaded.model.device, "flow": name, "requests": count, "context": chosen.context,
                              "sampled": chosen.sampled, "ms_without": 1000 * without, "ms_with": 1000 * with_it,
                              "tokens_per_second_without": count / without, "tokens_per_second_with": count / with_it,
                              "ratio": without / with_it, "blocks": {str(k): [round(1000 * x, 4) for x in v] for k, v in blocks.items()}}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
