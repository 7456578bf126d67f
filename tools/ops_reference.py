"""Writes docs/ops.md from the op table: python tools/ops_reference.py [--check]. With --check it only says whether the page is fresh."""

import sys
from pathlib import Path

from op_examples import example

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "ops.md"

KINDS = [
    (
        "source",
        "Sources",
        "Where values come from. `page_index` is written `page.index`, `seq_tokens` `seq.tokens`, `layer_count` `layer.count`.",
    ),
    (
        "elementwise",
        "Elementwise",
        "Element by element; operands broadcast by the names of their axes. The result has the axes of all of them.",
    ),
    (
        "reduction",
        "Reductions",
        'One axis disappears. The axis `"page"` turns a value of each page into one of the row.',
    ),
    ("along", "Along an axis", 'Same axes; every element depends on a whole axis, `"page"` included.'),
    ("contraction", "Contraction", ""),
    (
        "selection",
        "Sets of pages",
        "Chosen by one number a page, `a`, and an amount, `b`. The result is a set, `set[] @page`; sets made element by element, and `|` and `&`, stand above.",
    ),
    ("list", "Members of a set", "What later values are confined to; `page.where(S)` writes it."),
    ("domain", "Between pages, groups and sets", "The same numbers for other pages."),
    ("shape", "Shape", "No arithmetic: elements under other names and places."),
]
OPERATORS = {"add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b", "neg": "-a", "less": "a < b", "less_equal": "a <= b",
             "greater": "a > b", "greater_equal": "a >= b", "equal": "a == b", "pow": "a ** b"}  # fmt: skip


def call(op: dict) -> str:
    operands = list("abc")[: op["arity"]]
    settings = [attribute["name"] for attribute in op["attributes"]]
    return f"{op['name']}({', '.join(operands + settings)})"


def row(op: dict) -> str:
    facts = [
        word
        for fact, word in (
            ("commutative", "commutative"),
            ("order_preserving", "order-preserving"),
            ("nonnegative", "≥ 0"),
        )
        if op[fact]
    ]
    settings = "; ".join(f"`{attribute['name']}` {attribute['doc']}" for attribute in op["attributes"])
    written = f", written `{OPERATORS[op['name']]}`" if op["name"] in OPERATORS else ""
    text = op["doc"].replace("|", "\\|") + (
        f" Settings: {settings}." if settings and op["kind"] != "reduction" and op["kind"] != "along" else ""
    )
    return f"| `{call(op)}`{written} | {text} | {example(op['name'])} | {', '.join(facts)} |"


def page() -> str:
    from vortex_attention import _core

    lines = [
        "# The ops",
        "",
        "Made from the op table by `tools/ops_reference.py`; a test holds it fresh. The meaning of an op is its definition in double precision,",
        "in its file in `src/ir/ops/`. Every op is a function of `vortex_attention` and a method of a value: `vx.exp(x)` is `x.exp()`.",
        "How numbers are rounded, what NaN does and how ties break: [semantics.md](semantics.md).",
        "",
        "The examples are run by the interpreter when this page is made (`tools/op_examples.py`), on four candidate pages of two tokens: `i` is",
        '`page.index`, 0 to 3; `page.m` over "dim" is [1, 2, 3, 4] in page 0 and one more in each later page; `q` picks the first and the third',
        "channel with its two heads; the row holds 9 tokens. They show one number a page, or 1 for each page of a set.",
    ]
    for kind, title, text in KINDS:
        ops = [op for op in _core.op_table() if op["kind"] == kind]
        lines += [
            "",
            f"## {title}",
            "",
            *([text, ""] if text else []),
            "| op | what it computes | example | facts |",
            "|---|---|---|---|",
            *map(row, ops),
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    sys.path.insert(0, str(ROOT / "python"))
    text = page()
    if "--check" in sys.argv:
        fresh = PAGE.exists() and PAGE.read_text() == text
        print("docs/ops.md is fresh" if fresh else "docs/ops.md is stale: run python tools/ops_reference.py")
        return 0 if fresh else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
