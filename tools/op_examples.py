"""An example of each op of the language: an expression over four candidate pages, and what comes out, computed by the interpreter.

In every example the candidates are pages 0, 1, 2, 3 of a flow with page_size 2; `page.m` is a summary of each page, [1+p, 2+p, 3+p, 4+p] over "dim" for page p;
`q` is [[1, 0, 0, 0], [0, 0, 1, 0]] over "head" and "dim"; the row holds 9 tokens and `i` is page.index.
What is shown is one number a page, or 1 for each page of a set.
"""

import numpy as np

EXAMPLES = {
    "q": 'vx.dot(q, page.m, over="dim").max("head")',
    "page_k": 'page.k.mean("token") in summarize',
    "page_v": 'page.v.norm("dim").max("token") in summarize',
    "page_index": "page.index",
    "page_tokens": "page.tokens + 0 * i",
    "group_k": 'page.group(2).k.mean("token") in summarize',
    "group_v": 'page.group(2).v.norm("dim").max("token") in summarize',
    "group_index": "page.group(2).index.spread(other=-1)",
    "seq_pages": "seq.pages - i",
    "seq_tokens": "seq.tokens - i",
    "seq_step": "seq.step + i",
    "seq_left": "vx.top_k(i, seq.left)",
    "layer_index": "layer.index + i",
    "layer_count": "layer.count + i",
    "layer_scale": "layer.scale * i",
    "constant": "i + 0.5",
    "summary": 'page.m.sum("dim")',
    "param": 'vx.param("w", "dim", low=16) in score',
    "page_state": 'page.keep("acc", 0.0) in score',
    "seq_state": 'seq.keep("peak", 0.0, "head") in score',
    "add": "i + 1",
    "sub": "1 - i",
    "mul": "i * i",
    "div": "1 / i",
    "maximum": "vx.maximum(i, 2)",
    "minimum": "vx.minimum(i, 2)",
    "neg": "-i",
    "abs": "abs(i - 2)",
    "exp": "i.exp()",
    "log": "i.log()",
    "sqrt": "i.sqrt()",
    "rsqrt": "i.rsqrt()",
    "relu": "(i - 1).relu()",
    "tanh": "i.tanh()",
    "sigmoid": "i.sigmoid()",
    "silu": "i.silu()",
    "floor": "(i / 2).floor()",
    "clamp": "i.clamp(1, 2)",
    "where": "vx.where(i < 2, 10, i)",
    "less": "i < 2",
    "less_equal": "i <= 2",
    "greater": "i > 2",
    "greater_equal": "i >= 2",
    "equal": "i == 2",
    "pow": "i ** 2",
    "random": "vx.random(i, 7)",
    "sum": 'page.m.sum("dim")',
    "mean": 'i - i.mean("page")',
    "max": 'page.m.max("dim")',
    "min": 'page.m.min("dim")',
    "norm": 'page.m.norm("dim")',
    "logsumexp": 'i - i.logsumexp("page")',
    "softmax": 'i.softmax("page")',
    "normalize": 'i.normalize("page")',
    "cumsum": 'i.cumsum("page")',
    "dot": 'vx.dot(page.m, q, over="dim").sum("head")',
    "top_k": "vx.top_k(i * (3 - i), 2)",
    "approx_top_k": "vx.approx_top_k(i, 2, recall=0.9)",
    "top_p": 'vx.top_p(i.softmax("page"), 0.8)',
    "threshold": "vx.threshold(i, 2)",
    "first": "vx.first(1)",
    "last": "vx.last(3)",
    "either": "vx.first(1) | vx.threshold(i, 3)",
    "both": "vx.top_k(i, 3) & vx.threshold(2, i)",
    "members": "vx.top_k(page.where(vx.first(3)).index, 2)",
    "confine": "vx.threshold(page.where(vx.last(3)).index, 3)",
    "spread": "i + page.group(2).index.spread(other=-1)",
    "shift": "i.shift(1, other=-1)",
    "split": 'page.m.split("dim", half=2).max("half").sum("dim")',
    "merge": 'page.m.split("dim", half=2).merge("dim", "half").max("dim")',
    "rename": '(page.m * page.m.rename("dim", "other")).sum("other").max("dim")',
    "slice": 'page.m.slice("dim", 0, 2).sum("dim")',
    "low_frequency": 'page.m.low_frequency("dim", 0.5).sum("dim")',
    "nope": 'i + q.nope().max("dim").max("head")',
    "rope": 'i + q.rope().max("dim").max("head")',
}  # fmt: skip
DIM, HEADS, PAGES, PAGE_SIZE, TOKENS = 4, 2, 4, 2, 9

HEAD = """import vortex_attention as vx

class Example(vx.vFlow):
    page_size, budget, sinks, recent = 2, 2, 0, 1
"""
SCORE = """    def summarize(self, page):
        page.m = page.k.mean("token")
    def score(self, q, page, seq, layer):
        i, spare = page.index, 0 * (page.m.max("dim") + q.max("dim").max("head"))
        return {} + spare
"""
SELECT = """    def score(self, page):
        return page.index
    def select(self, score, page, seq, layer):
        i = page.index
        return {}
"""
SETS = ("top_k", "approx_top_k", "top_p", "threshold", "first", "last")


def run(expression: str) -> list[float]:
    """One number a page."""
    from vortex_attention import _core
    from vortex_attention.language import tracer

    is_set = any(f"vx.{name}(" in expression for name in SETS)
    source = HEAD + (SELECT if is_set else SCORE).format(expression)
    program = _core.parse_flow(tracer.trace_source(source, "example.py", None))
    program.verify()
    summaries = {} if is_set else {"m": np.array([[1.0 + p, 2 + p, 3 + p, 4 + p] for p in range(PAGES)])}
    q = np.zeros((HEADS, DIM))
    q[0, 0] = q[1, 2] = 1
    out = _core.interpret_scores(
        program, q, summaries, list(range(PAGES)), tokens=TOKENS, step=5, layer=1, layers=30, scale=0.125
    )
    return [float(value) for value in out]


def shown(values: list[float]) -> str:
    return ", ".join("inf" if value == np.inf else "−inf" if value == -np.inf else f"{value:.3g}" for value in values)


def example(op: str) -> str:
    """A cell of the reference: the expression and its result."""
    expression = EXAMPLES.get(op)
    if expression is None:
        return "–"
    if expression.endswith((" in summarize", " in score")):
        code, method = expression.rsplit(" in ", 1)
        return f"`{code}` in `{method}`"
    return f"`{expression}` → {shown(run(expression))}".replace("|", "\\|")
