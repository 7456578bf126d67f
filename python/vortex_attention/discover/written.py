"""A program as a Python class, for people: IR of a search becomes a flow file that can be read and changed. Whoever uses the text traces it and
compares the hash; what has no plain form here (learned parameters, flows for some layers) is None.
"""

from __future__ import annotations

import json
import keyword
import re

from .. import _core
from .graph import MEMBERS

SOURCES = {"q": "q", "page_k": "page.k", "page_v": "page.v", "page_index": "page.index", "page_tokens": "page.tokens", "seq_pages": "seq.pages",
           "seq_tokens": "seq.tokens", "seq_step": "seq.step", "seq_left": "seq.left", "layer_index": "layer.index", "layer_count": "layer.count",
           "layer_scale": "layer.scale"}  # fmt: skip
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
             "either": "|", "both": "&"}  # fmt: skip
CHOOSING = ("top_k", "approx_top_k", "top_p", "threshold")
GROUP_SOURCES = {"group_k": "k", "group_v": "v", "group_index": "index"}
STATES = {"page_state": "page", "seq_state": "seq"}
LONG = 90  # characters of an expression before its value gets a name


def python_of(program: _core.Program) -> str | None:
    """The text of a flow file with one class that means what the program means."""
    data = json.loads(program.json())
    values = data["values"]
    if set(data) - MEMBERS or any(value["op"] == "param" for value in values):
        return None
    name = (
        data["flow"]
        if data["flow"].isascii() and data["flow"].isidentifier() and not keyword.iskeyword(data["flow"])
        else "Found"
    )
    lines = ["import vortex_attention as vx", "", "", f"class {name}(vx.vFlow):"]
    if data.get("doc"):
        lines += [f"    {_doc(data['doc'])}", ""]
    lines += [
        f"    {key} = {_setting(value)}" for key, value in data["config"].items() if value not in (0, 0.0, [], {}, None)
    ]
    if "score" not in data and "select" not in data:
        lines += ["", "    score = None"]
    if data.get("summaries"):
        body = _Body(values, {})
        body.count([summary["value"] for summary in data["summaries"]])
        for summary in data["summaries"]:
            text = body.expression(summary["value"])
            body.lines.append(f"        {_stored(summary['name'], values[summary['value']]['type'])} = {text}")
        lines += ["", "    def summarize(self, page):", *body.lines]
    given: dict[int, str] = {}
    scored = data.get("score")
    if "select" in data:
        scored = _chosen_by(values, data["select"]) if scored is None else scored
        if scored is None:
            return None
        given = {scored: "score"}
    states = {state["name"]: state["value"] for state in data.get("states", [])}
    last = "select" if "select" in data else "score"  # where states are set
    for method, roots, known in (
        ("budget", [data.get("budget")], {}),
        ("score", [scored], {}),
        ("select", [data.get("select")], given),
        ("rest", [data.get("rest_logit"), data.get("rest_value")], {}),
    ):
        roots = [root for root in roots if root is not None]
        if not roots:
            continue
        body = _Body(values, known)
        set_here = states if method == last else {}
        body.count([*roots, *set_here.values()])
        body.count([at for at, value in enumerate(values) if _state(value) in set_here])
        texts = [body.expression(root) for root in roots]
        for name, root in set_here.items():
            text = body.expression(root)
            kept = next(at for at, value in enumerate(values) if _state(value) == name)
            body.lines.append(f"        {body.expression(kept)}.set({text})")
        body.lines.append(f"        return {', '.join(texts)}")
        taken = [
            "self",
            *(["score"] if known else []),
            *(one for one in ("q", "page", "seq", "layer") if body.uses(one)),
        ]
        lines += ["", f"    def {method}({', '.join(taken)}):", *body.lines]
    return "\n".join(lines) + "\n"


def _state(value: dict) -> str | None:
    return value["attributes"]["name"] if value["op"] in STATES else None


def _stored(name: str, kind: str) -> str:
    """A summary as the language calls it: page.mean; page.group(8).mean, which the program knows as group8_mean."""
    domain = re.search(r"@group\((\d+)\)", kind)
    if domain is None:
        return f"page.{name}"
    return f"page.group({domain[1]}).{name.removeprefix(f'group{domain[1]}_')}"


def _chosen_by(values: list[dict], root: int) -> int | None:
    """The one number a page by which the set is chosen."""
    value = values[root]
    if value["op"] in CHOOSING:
        return value["inputs"][0]
    return next((found for one in value.get("inputs", []) if (found := _chosen_by(values, one)) is not None), None)


def _doc(text: str) -> str:
    simple = all(letter.isprintable() or letter == "\n" for letter in text) and not set(text) & set('"\\')
    return '"""' + text + '"""' if simple else json.dumps(text)


def _number(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else f'float("{value}")'


def _setting(value: object) -> str:
    return repr({int(key): one for key, one in value.items()}) if isinstance(value, dict) else repr(value)


class _Body:
    """Statements of one method. A value that is used several times gets a name before it is."""

    def __init__(self, values: list[dict], known: dict[int, str]):
        self.values, self.known, self.lines = values, dict(known), []
        self.uses_of: dict[int, int] = {}
        self.owners: dict[tuple[str, int], str] = {}  # pages of a set → their name

    def count(self, roots: list[int]) -> None:
        for root in roots:
            self.uses_of[root] = self.uses_of.get(root, 0) + 1
            if self.uses_of[root] == 1 and root not in self.known:
                self.count(self.values[root].get("inputs", []))

    def uses(self, name: str) -> bool:
        return any(re.search(rf"(?<![\w.\"]){name}(?![\w\"])", line) for line in self.lines)

    def expression(self, index: int) -> str:
        if index in self.known:
            return self.known[index]
        value = self.values[index]
        op, inputs, settings = value["op"], value.get("inputs", []), value.get("attributes", {})
        if op in SOURCES:
            return SOURCES[op]
        if op == "summary":
            return _stored(settings["name"], value["type"])
        if op in GROUP_SOURCES:
            return f"page.group({settings['size']}).{GROUP_SOURCES[op]}"
        if op in STATES:
            axes = [one.strip() for one in settings["axes"].split(",") if one.strip()]
            words = [one if "=" in one else json.dumps(one) for one in axes]
            words = [json.dumps(settings["name"]), _number(settings["initial"]), *words]
            return self._named(index, f"{STATES[op]}.keep({', '.join(words)})")
        if op == "constant":
            return _number(settings["value"])
        if op == "confine":
            return self._confined(*inputs)
        if op == "spread":
            chosen = self.values[inputs[0]]["type"].startswith("set")
            call = "pages()" if chosen else f"spread(other={_number(settings['other'])})"
            return f"{self.expression(inputs[0])}.{call}"
        if op in ("first", "last"):  # of the sequence: the index of a page is taken by itself
            inputs = inputs[1:2]
        parts = [self.expression(one) for one in inputs]
        if op in OPERATORS:
            text = f"({parts[0]} {OPERATORS[op]} {parts[1]})"
        else:
            text = f"vx.{op}({', '.join([*parts, *(f'{key}={json.dumps(one)}' for key, one in settings.items())])})"
        return self._named(index, text) if self.uses_of.get(index, 0) > 1 or len(text) > LONG else text

    def _named(self, index: int, text: str) -> str:
        self.known[index] = f"v{index}"
        self.lines.append(f"        v{index} = {text}")
        return self.known[index]

    def _confined(self, index: int, members: int) -> str:
        """Of the pages of a set: `page.where(S).mean`. A value that is computed is confined where it meets another."""
        value, chosen = self.values[index], self.values[members]["inputs"][0]
        if self.values[chosen]["op"] == "spread":  # of groups; where() looks for their pages itself
            chosen = self.values[chosen]["inputs"][0]
        text = self.expression(index)
        if value["op"] not in ("summary", "page_index", "group_index"):
            return text
        owner, _, name = text.rpartition(".")
        if (where := self.owners.get((owner, members))) is None:  # the pages of a set said twice are two lists
            pages = f"{owner}.where({self.expression(chosen)})"
            where = self.owners[owner, members] = f"p{members}" if owner == "page" else f"g{members}"
            self.lines.append(f"        {where} = {pages}")
        return f"{where}.{name}"
