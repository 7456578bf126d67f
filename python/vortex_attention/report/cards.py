"""A card for each flow of a page: what it says of itself, its code, its IR, its price, and where its figures come from. All text is a
stranger's and escaped."""

from __future__ import annotations

import html
import json

from ..ledger import Ledger

PRICE = (  # key of a price, its words, its unit
    ("score_bytes", "to score", "B"), ("select_bytes", "to select", "B"), ("attend_bytes", "to attend", "B"),
    ("full_attention_bytes", "full attention", "B"), ("weight_bytes", "weights", "B"), ("step_speedup", "bytes say", "×"),
)  # fmt: skip


def collect(ledger: Ledger, sections: list[dict], summaries: dict[str, dict]) -> list[dict]:
    """One for each program that the runs hold, JSON-ready. summaries: by run."""
    cards: dict[tuple, dict] = {}
    for section in sections:
        run = section["run"]
        for arm in ledger.rows(
            "SELECT a.name AS arm, a.role, f.* FROM arm a JOIN flow f ON f.hash = a.flow_hash AND f.ir_version = a.ir_version WHERE a.run = ? ORDER BY a.id",
            (run["id"],),
        ):
            card = cards.setdefault(
                (arm["hash"], arm["ir_version"]),
                {**{key: arm[key] for key in ("hash", "ir_version", "name", "doc", "config", "ir", "role")}, "arms": [], "source": "", "prices": [], "figures": []},
            )  # fmt: skip
            if arm["arm"] not in card["arms"]:
                card["arms"].append(arm["arm"])
            kept = summaries[run["id"]].get("flows", {}).get(arm["arm"], {})
            card["source"] = card["source"] or str(kept.get("source", ""))
            card["prices"] += [
                price for price in kept.get("prices", []) if isinstance(price, dict) and price not in card["prices"]
            ]
            card["figures"] += _figures(section, arm["arm"])
    return list(cards.values())


def _figures(section: dict, arm: str) -> list[dict]:
    run, kept = section["run"], section["kept"]
    where = {
        "run": run["id"],
        "began": run["began"],
        "device": run["device"],
        "commit": run["commit_id"],
        "dirty": bool(run["dirty"]),
    }
    if run["kind"] == "accuracy":
        metric = kept["metrics"][0]
        return [
            where | {"what": f"{kept['suite']}, {metric['title']} beside full attention", "value": one["difference"], "scale": metric["scale"],
                     "digits": metric["digits"], "says": one["verdict"] or ""}
            for one in kept["arms"] if one["name"] == arm and one["difference"]]  # fmt: skip
    if run["kind"] == "speed":
        return [
            where | {"what": f"decode {case['batch']} × {case['context']}, × full attention", "value": one["ratio"], "scale": 1.0, "digits": 2, "says": ""}
            for case in kept for one in case["arms"] if one["name"] == arm and one["ratio"]]  # fmt: skip
    if run["kind"] == "throughput":
        return [
            where | {"what": f"mix {case['mix']}, × full attention", "value": one["ratio"], "scale": 1.0, "digits": 2, "says": ""}
            for case in kept for one in case["arms"] if one["name"] == arm and one["ratio"]]  # fmt: skip
    return []


def render(card: dict, interval, table) -> str:
    """HTML. interval, table: the page's own."""
    names = ", ".join(dict.fromkeys([*card["arms"], card["name"]]))
    rows = [
        (
            [_e(one["what"]), interval(one["value"], one["digits"], one["scale"]), _e(one["says"] or "–"), _e(one["run"][:10]), _e(one["began"][:10]),
             _e(one["device"]), _e(one["commit"]) + (" with uncommitted changes" if one["dirty"] else "")],
            False,
        )
        for one in card["figures"]
    ]  # fmt: skip
    figures = table(["figure", "", "verdict", "run", "date", "device", "commit"], rows) if rows else ""
    prices = [
        ([_e(f"{price.get('batch')} × {price.get('context')}"), *(_size(price.get(key), unit) for key, _, unit in PRICE), _e(price.get("summary_bytes_per_page"))], False)
        for price in card["prices"]]  # fmt: skip
    priced = (
        "<h4>Price of a decode step, from the IR alone</h4>"
        + table(["batch × tokens", *(words for _, words, _ in PRICE), "summary, B a page"], prices)
        if prices
        else ""
    )
    code = (
        f"<h4>Code</h4><pre>{_e(card['source'])}</pre>"
        if card["source"]
        else "<p class=note>Its runs kept no code.</p>"
    )
    return (
        f"<details class=card><summary>{_e(names)}{' (a control)' if card['role'] == 'control' else ''}</summary><p>{_e(card['doc'])}</p>{figures}{priced}{code}"
        f"<h4>IR</h4><pre>{_e(card['ir'])}</pre><p class=note>hash {_e(card['hash'])}, IR version {_e(card['ir_version'])}; {_e(card['config'])}</p></details>"
    )


def _size(value, unit: str) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    if unit == "×":
        return f"{value:.2f} ×"
    for name in ("B", "KB", "MB", "GB"):
        if value < 1000 or name == "GB":
            return f"{value:.0f} {name}" if name == "B" else f"{value:.3g} {name}"
        value /= 1000
    return ""


def _e(text) -> str:
    return html.escape(text if isinstance(text, str) else json.dumps(text))
