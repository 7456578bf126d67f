"""Two results of `vortex eval --json` of the same suite, items and flows, one of the CPU and one of a GPU: how far apart they are, item by item,
against a stated bound. Activations enter linears as int8 on the CPU and as bf16 on a GPU, weights stay in their format on the CPU, so bits differ;
what a table says must not.

usage: cpu_beside_gpu.py CPU.json GPU.json [--mean 0.05] [--item 0.5] [--kl 0.03]

Either may be RESULTS.jsonl:PART of gpu_accuracy.py. Items and arms that both have are compared.

Bounds: of an arm, the mean of the main metric (a log-probability, nats) parts by at most --mean and one item's by at most --item, its mean KL to full attention of the same device by at most
--kl or a fifth of itself. Exits with 1 when an arm is beyond.
"""

import argparse
import json
import sys


def read(path: str) -> dict:
    """A result of `vortex eval --json`, or the last of a part among those of gpu_accuracy.py."""
    name, mark, part = path.partition(".jsonl:")
    with open(name + ".jsonl" if mark else path, encoding="utf-8") as file:
        if not mark:
            return json.load(file)
        found = [row["result"] for row in map(json.loads, file) if row["part"] == part]
    if not found:
        sys.exit(f"[cpu_beside_gpu] a part of {name}.jsonl; {part}; name one that is there")
    return found[-1]


def beside(cpu: dict, gpu: dict) -> list[dict]:
    """A row for each arm that both have, over the items that both have."""
    places = {item["name"]: place for place, item in enumerate(gpu["items"])}
    common = [(place, places[item["name"]]) for place, item in enumerate(cpu["items"]) if item["name"] in places]
    if not common:
        sys.exit("[cpu_beside_gpu] results that share items; none came; run both with the same suite, length and seed")
    metric = cpu["metrics"][0]["name"]
    other, whole = {arm["name"]: arm for arm in gpu["arms"]}, len(common) == len(cpu["items"]) == len(gpu["items"])
    rows = []
    for arm in cpu["arms"]:
        if arm["name"] not in other:
            continue
        pairs = [(arm["outcomes"][here], other[arm["name"]]["outcomes"][there]) for here, there in common]
        apart = [b[metric] - a[metric] for a, b in pairs]
        kls = [sum(pair[which]["kl"] for pair in pairs) / len(pairs) for which in (0, 1)]
        rows.append({"name": arm["name"], "items": len(pairs), "mean": sum(apart) / len(apart), "most": max(map(abs, apart)), "kl_cpu": kls[0], "kl_gpu": kls[1],
                     "exact": sum(bool(a.get("exact")) != bool(b.get("exact")) for a, b in pairs),
                     "tokens": other[arm["name"]]["attended_tokens"] - arm["attended_tokens"] if whole else 0.0})  # fmt: skip
    return rows


def beyond(row: dict, mean: float, item: float, kl: float) -> list[str]:
    """What of a row is beyond the bounds."""
    found = []
    if abs(row["mean"]) > mean:
        found.append(f"means part by {row['mean']:+.3f}")
    if row["most"] > item:
        found.append(f"an item's parts by {row['most']:.3f}")
    if abs(row["kl_gpu"] - row["kl_cpu"]) > max(kl, 0.2 * max(row["kl_cpu"], row["kl_gpu"])):
        found.append(f"KLs are {row['kl_cpu']:.3f} and {row['kl_gpu']:.3f}")
    if row["tokens"]:
        found.append(f"a row attends {row['tokens']:+.1f} tokens more on the GPU")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cpu")
    parser.add_argument("gpu")
    parser.add_argument("--mean", type=float, default=0.05)
    parser.add_argument("--item", type=float, default=0.5)
    parser.add_argument("--kl", type=float, default=0.03)
    chosen = parser.parse_args(arguments)
    results = [read(chosen.cpu), read(chosen.gpu)]
    rows = beside(*results)
    print(
        f"{results[0]['suite']}, {rows[0]['items']} items: {results[0]['provenance']['device']} beside {results[1]['provenance']['device']}\n"
    )
    print(
        "| arm | GPU − CPU, mean | largest of an item | exact on one alone | KL on the CPU | KL on the GPU |\n|---|---|---|---|---|---|"
    )
    wrong = []
    for row in rows:
        print(
            f"| `{row['name']}` | {row['mean']:+.4f} | {row['most']:.3f} | {row['exact']} | {row['kl_cpu']:.4f} | {row['kl_gpu']:.4f} |".replace(
                "-", "−"
            )
        )
        wrong += [f"{row['name']}: {said}" for said in beyond(row, chosen.mean, chosen.item, chosen.kl)]
    print(
        f"\nbounds: means {chosen.mean:g}, an item {chosen.item:g}, KL {chosen.kl:g} or a fifth: "
        + ("; ".join(wrong) or "all within")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
