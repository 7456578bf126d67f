"""The flow language in Python: what traces, and the words of every error a designer can meet, with file and line."""

import textwrap

import pytest

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.language import tracer

HEAD = "import math\nimport vortex_attention as vx\n"

SUMMARIZE = """
    def summarize(self, page):
        page.mean = page.k.mean("token")
"""


def program(body: str, head: str = HEAD) -> _core.Program:
    """The program of a file that holds `body` after two lines of imports."""
    out = _core.parse_flow(tracer.trace_source(head + textwrap.dedent(body).lstrip("\n"), "flow.py", None))
    out.verify()
    return out


def error_of(body: str, head: str = HEAD) -> str:
    with pytest.raises(vx.UserError) as caught:
        program(body, head)
    return str(caught.value)


def flow(score: str, summarize: str = SUMMARIZE, settings: str = "budget = 4") -> str:
    """A class of the given methods; `score` is the body of score, on line 9."""
    lines = textwrap.indent(textwrap.dedent(score).strip(), "        ")
    return f"class Flow(vx.vFlow):\n    {settings}\n{summarize}\n    def score(self, q, page):\n{lines}\n"


def test_a_flow_traces_to_its_program():
    traced = program(flow('return vx.dot(q, page.mean, over="dim").softmax("page").sum("head")'))
    assert traced.text() == textwrap.dedent("""\
        vortex_ir 1
        flow "Flow"
        source "flow.py"
        config page_size=16 budget=4 budget_ratio=0 sinks=1 recent=2 full_attention_layers=none summary_dtype=bf16
        %0 = page_k() : f32[token, dim] @page ; 7
        %1 = mean(%0, axis="token") : f32[dim] @page ; 7
        summary mean = %1
        %2 = q() : f32[head, dim] @row ; 9
        %3 = summary(name="mean") : f32[dim] @page ; 10
        %4 = dot(%2, %3, over="dim") : f32[head] @page ; 10
        %5 = softmax(%4, axis="page") : f32[head] @page ; 10
        %6 = sum(%5, axis="head") : f32[] @page ; 10
        score = %6
        """)


def test_plain_python_just_works():
    """Helpers, loops, inheritance, constants of the class, values used twice: all give the program written out."""
    traced = program("""
        def logit(q, key):
            return vx.dot(q, key, over="dim")

        class Base(vx.vFlow):
            budget, weights = 4, (0.25, 0.75)

            def summarize(self, page):
                page.mean = page.k.mean("token")

        class Flow(Base):
            def score(self, q, page):
                total = 0
                for weight in self.weights:
                    total = total + weight * logit(q, page.mean)
                return total.softmax("page").sum("head")
        """)
    assert traced.summaries == {"mean": "f32[dim] @page"}
    assert traced.config.budget == 4


def test_operators_and_numbers():
    traced = program(
        flow("""
        x = vx.dot(q, page.mean, over="dim").sum("head")
        y = 2 - x / 3 + 1 / (x * x + 1) - (-x) ** 2 + abs(x)
        z = (x < y) + (x <= y) + (x > y) + (x >= y) + (x == y) + (x != y)
        return vx.where(z > 2, y, page.index).clamp(-1, high=5)
        """)
    )
    assert "clamp(" in traced.text() and "low=-1, high=5" in traced.text()


def test_split_takes_its_new_axis_by_name():
    summarize = """
    def summarize(self, page):
        page.part = page.k.split("token", sub=4).mean("sub").max("token")
"""
    assert (
        'split(%0, axis="token", name="sub", size=4) : f32[token=token/4, sub=4, dim] @page'
        in program(flow('return vx.dot(q, page.part, over="dim").sum("head")', summarize)).text()
    )


def test_settings_reach_the_config():
    settings = "page_size, budget, budget_ratio, sinks, recent, full_attention_layers = 32, 8, 0.25, 2, 3, [4, 0]"
    config = program(flow('return vx.dot(q, page.mean, over="dim").sum("head")', settings=settings)).config
    assert (
        str(config)
        == "page_size=32 budget=8 budget_ratio=0.25 sinks=2 recent=3 full_attention_layers=0,4 summary_dtype=bf16"
    )


def test_score_none_attends_pinned_pages_only():
    assert not program("class Flow(vx.vFlow):\n    score = None\n").scores


# Each case: the body of score, and the whole message. Line 10 is the first line of the body.
SCORE_ERRORS = {
    "truth of a value": (
        'if page.mean.sum("dim") > 0: return page.index',
        "[flow.py:10] a flow is traced once for all pages, so it cannot branch on a value; if, while, and, or, not of a value f32[] @page; "
        "use vx.where(condition, a, b), vx.maximum or vx.minimum",
    ),
    "math on a value": (
        'return math.exp(page.mean.sum("dim"))',
        "[flow.py:10] a value has no number while the flow is traced; float(), math.exp() or the like of a value f32[] @page; "
        "use the methods of values: x.exp(), x.sqrt(), vx.maximum(a, b)",
    ),
    "int of a value": (
        "return page.index * int(q.sum('dim').sum('head'))",
        "[flow.py:10] a value has no number while the flow is traced; int() of a value f32[] @row; write x.floor(); numbers of pages are rounded down anyhow",
    ),
    "a range over a value": (
        "return sum(page.index for _ in range(page.index))",
        "[flow.py:10] a value has no number while the flow is traced; range() or an index of a value f32[] @page; "
        "count by plain numbers: range(4), self.page_size, a class attribute",
    ),
    "round of a value": (
        "return round(page.index, 1)",
        "[flow.py:10] a value has no number while the flow is traced; round() of a value f32[] @page; write (x + 0.5).floor()",
    ),
    "math.floor of a value": (
        "return math.floor(page.index)",
        "[flow.py:10] a value has no number while the flow is traced; math.floor() of a value f32[] @page; write x.floor()",
    ),
    "math.ceil of a value": (
        "return math.ceil(page.index)",
        "[flow.py:10] a value has no number while the flow is traced; math.ceil() of a value f32[] @page; write -(-x).floor()",
    ),
    "whole division": (
        "return page.index // 4",
        "[flow.py:10] a value has the operators + - * / ** and comparisons; // of a value f32[] @page; write (a / b).floor()",
    ),
    "a remainder": (
        "return 7 % page.index",
        "[flow.py:10] a value has the operators + - * / ** and comparisons; % of a value f32[] @page; write a - b * (a / b).floor()",
    ),
    "not of a value": (
        "return ~(page.index < 4)",
        "[flow.py:10] a value has the operators + - * / ** and comparisons; ~ of a value f32[] @page; the opposite of a condition is 1 - x",
    ),
    "a convolution over tokens": (
        "return page.mean.conv((1, 2), 'dim').sum('dim')",
        '[flow.py:10] conv runs along "page"; "dim"; write it as a sum of cuts: x.slice("dim", 0, 4) * 0.5 + x.slice("dim", 1, 5) * 0.5',
    ),
    "a convolution with a value": (
        "return page.index.conv(page.index)",
        "[flow.py:10] conv takes 1 to 64 plain numbers; Value Value(f32[] @page); write x.conv((0.25, 0.5, 0.25))",
    ),
    "a convolution of the query": (
        "return page.index * q.sum('dim').sum('head').conv((1, 2, 1))",
        "[flow.py:10] shift runs over the candidates of a row, so it takes a value of pages; f32[] @row; use it as it is",
    ),
    "an op that is not called": (
        "return page.mean.abs.sum('dim')",
        "[flow.py:10] the flow must trace without errors; AttributeError: 'function' object has no attribute 'sum'; an op is called: .abs().sum",
    ),
    "an operand that is not called": (
        "return vx.dot(q.nope, page.mean, over='dim')",
        "an op is called: .nope()",
    ),
    "torch on a value": (
        "import torch\nreturn torch.exp(page.index)",
        "[flow.py:11] a flow is written with the ops of the language; torch.exp; "
        'write x.exp(), page.k.mean("token") and the like; learned numbers are vx.param("name", axes)',
    ),
    "torch reduces a value": (
        "import torch\nreturn torch.mean(q, dim=1)",
        "[flow.py:11] a flow is written with the ops of the language; torch.mean; "
        'write x.mean(axis), page.k.mean("token") and the like; learned numbers are vx.param("name", axes)',
    ),
    "a part of torch": (
        "import torch.nn.functional as F\nreturn F.relu(page.index)",
        "[flow.py:10] a flow is written with the ops of the language; torch.nn; "
        'write x.exp(), page.k.mean("token") and the like; learned numbers are vx.param("name", axes)',
    ),
    "jax on a value": (
        "import jax.numpy as jnp\nreturn jnp.exp(page.index)",
        "[flow.py:10] the flow must trace without errors; ModuleNotFoundError: No module named 'jax'; "
        'write it with the ops of the language: page.k.mean("token"), x.exp(), vx.maximum(a, b)',
    ),
    "an undeclared summary of groups": (
        "return page.index + page.group(8).mean.sum('dim').spread()",
        "[flow.py:10] score knows page.group(8).index, page.group(8).tokens; page.group(8).mean; "
        "declare it in summarize: page.group(8).mean = ... of page.group(8).k",
    ),
    "an undeclared summary": (
        "return page.centroid",
        "[flow.py:10] score knows page.mean, page.index, page.tokens; page.centroid; "
        'declare it in summarize: page.centroid = ...; what is carried from step to step is page.keep("centroid", 0.0)',
    ),
    "forgotten return": (
        "page.mean",
        "[flow.py:9] score must return one number a page; nothing; end it with return ...",
    ),
    "a dimension number": (
        "return q.sum(1)",
        '[flow.py:10] sum needs the name of an axis as axis; 1; axes have names, not numbers: "token", "dim", "head" or "page"',
    ),
    "dim= as elsewhere": (
        "return q.sum(dim=-1)",
        '[flow.py:10] axes have names; dim=-1; say which one: x.sum("dim"), "head", "token" or "page"',
    ),
    "keepdim": (
        'return q.mean("head", keepdim=True)',
        "[flow.py:10] nothing has to be kept for broadcasting; keepdim=True; leave it out",
    ),
    "a transpose": (
        "return (q * page.mean.T).sum('dim').sum('head')",
        "[flow.py:10] a value has the ops of the language as methods; .T; axes have names, so nothing is transposed or reshaped: operands meet by name; "
        "vx.dot, .split, .merge and .rename do the rest",
    ),
    "a shape": (
        "return q.shape[0]",
        "[flow.py:10] a value has the ops of the language as methods; .shape; sizes are known when the flow meets a model; .type says the axes",
    ),
    "topk as elsewhere": (
        "return page.mean.topk(4)",
        '[flow.py:10] a value has the ops of the language as methods; .topk; the largest is x.max("page"); a set of pages is vx.top_k(x, k)',
    ),
    "numpy on a value": (
        "import numpy as np\nreturn np.exp(page.mean)",
        "[flow.py:11] a value has no number while the flow is traced; np.exp() of a value f32[dim] @page; use the methods of values: x.exp()",
    ),
    "a numpy function on a value": (
        "import numpy as np\nreturn np.sum(page.mean)",
        "[flow.py:11] a value has no number while the flow is traced; np.sum() of a value f32[dim] @page; use the methods of values: x.sum(axis)",
    ),
    "a numpy array of a value": (
        "import numpy as np\nreturn np.asarray(page.mean)",
        '[flow.py:11] a value has no number while the flow is traced; a NumPy function of a value f32[dim] @page; use the methods of values: x.exp(), x.sum("dim")',
    ),
    "a numpy array as an operand": (
        "import numpy as np\nreturn np.ones(4) * page.mean",
        "[flow.py:11] mul takes values and plain numbers; ndarray array([1., 1., 1., 1.]); write constants as plain numbers; lists and arrays are no part of a flow",
    ),
    "a chained comparison": (
        "return vx.where(0 < page.index < 4, 1, 0)",
        "[flow.py:10] a flow is traced once for all pages, so it cannot branch on a value; if, while, and, or, not of a value f32[] @page; "
        "use vx.where(condition, a, b), vx.maximum or vx.minimum",
    ),
    "no axis at all": ("return q.sum()", "[flow.py:10] sum needs the name of an axis as axis; nothing; give axis"),
    "a helper that forgets to return": (
        "def logit(): q * page.mean\nreturn vx.exp(logit())",
        "[flow.py:11] exp takes values of a flow; nothing (None); does the function that made it forget to return?",
    ),
    "page.k in score": (
        'return vx.dot(q, page.k, over="dim")',
        "[flow.py:10] page.k exists in summarize; score, which runs every step and does not read whole pages; "
        'store what you need of it: in summarize, page.name = page.k.mean("token") or the like',
    ),
    "a misspelt axis": (
        'return vx.dot(q, page.mean, over="dims").sum("head")',
        '[flow.py:10] the value must have the axis "dims"; a value of type f32[head, dim] @row; did you mean "dim"?',
    ),
    "an axis that is not there": (
        'return q.sum("token")',
        '[flow.py:10] the value must have the axis "token"; a value of type f32[head, dim] @row; use one of "head", "dim"',
    ),
    "a leftover head axis": (
        'return vx.dot(q, page.mean, over="dim")',
        '[flow.py:10] score must be one number a page, f32[] @page; f32[head] @page; reduce the axis "head", say with .sum("head")',
    ),
    "the same for all pages": (
        'x = page.mean.sum("dim").sum("page")\nreturn x',
        "[flow.py:10] score must be one number a page, f32[] @page; f32[] @row, the same for all pages; make it from a summary or from page.index",
    ),
    "a misspelt summary": (
        'return vx.dot(q, page.maen, over="dim").sum("head")',
        "[flow.py:10] score knows page.mean, page.index, page.tokens; page.maen; did you mean page.mean?",
    ),
    "a near summary": (
        'return vx.dot(q, page.means, over="dim").sum("head")',
        "[flow.py:10] score knows page.mean, page.index, page.tokens; page.means; did you mean page.mean?",
    ),
    "an unused summary": (
        "return page.index",
        "[flow.py:7] every summary must be read by score: it costs memory on each page; page.mean, which score never uses; "
        "use page.mean in score, or delete it",
    ),
    "a summary declared in score": (
        "page.x = q",
        "[flow.py:10] a summary is declared in summarize; an assignment to page.x in score; move it to summarize, or use a variable of your own",
    ),
    "matmul": (
        "return q @ page.mean",
        '[flow.py:10] a contraction names its axis; @ of a value f32[head, dim] @row; write vx.dot(a, b, over="dim")',
    ),
    "indexing": (
        "return page.mean[0]",
        '[flow.py:10] axes have names, not positions; [...] of a value f32[dim] @page; cut an axis by its name: x.slice("dim", 0, 32)',
    ),
    "iteration": (
        "return [x for x in page.mean]",
        '[flow.py:10] a value cannot be looped over; iteration of a value f32[dim] @page; reduce an axis by its name: x.sum("token")',
    ),
    "len": (
        "return len(page.mean)",
        "[flow.py:10] the size of an axis is known when the flow meets a model; len() of a value f32[dim] @page; "
        "use .mean(axis) for an average; page_size is self.page_size",
    ),
    "a list as an operand": (
        "return page.mean * [1, 2]",
        "[flow.py:10] mul takes values and plain numbers; list [1, 2]; write constants as plain numbers; lists and arrays are no part of a flow",
    ),
    "None as an operand": (
        "return page.mean + None",
        "[flow.py:10] add takes values and plain numbers; nothing (None); does the function that made it forget to return?",
    ),
    "an unknown method": (
        'return page.mean.sofmax("page")',
        "[flow.py:10] a value has the ops of the language as methods; .sofmax; did you mean .softmax?",
    ),
    "an unknown function": (
        "return vx.maximun(q, 0)",
        "[flow.py:10] the flow must trace without errors; AttributeError: module 'vortex_attention' has no attribute 'maximun'; did you mean \"maximum\"?",
    ),
    "a list of axes": (
        'return q.sum(("head", "dim"))',
        "[flow.py:10] sum takes a plain number or a name as axis; tuple ('head', 'dim'); reduce one axis after another",
    ),
    "a value as a setting": (
        "return page.index.clamp(0, page.index)",
        "[flow.py:10] clamp takes a plain number or a name as high; a value f32[] @page; write it as a plain number or a string",
    ),
    "dot over pages": (
        'return vx.dot(page.mean, q, over="page")',
        '[flow.py:10] dot over "page" takes two values that differ from page to page; f32[head, dim] @row; multiply by it after a sum over "page"',
    ),
    "page axis of a row value": (
        'return q.sum("page")',
        '[flow.py:10] the axis "page" needs a value that differs from page to page; a value of type f32[head, dim] @row; '
        "use it on a value made from a summary or from page.index",
    ),
    "clamp the wrong way": (
        "return page.index.clamp(2, 1)",
        "[flow.py:10] clamp needs low <= high; low 2, high 1; swap them",
    ),
    "axes of different sizes": (
        'return (page.mean.slice("dim", 0, 4) * q).sum("dim").sum("head")',
        '[flow.py:10] the axis "dim" must have one size in all operands; 4 and dim; rename one of them if they are different axes',
    ),
    "numbers alone": (
        "return vx.exp(1.0)",
        "[flow.py:10] exp takes values of a flow; float 1.0; compute with plain numbers in Python itself",
    ),
    "too few operands": ("return vx.maximum(q)", "[flow.py:10] maximum takes 2 values; 1; check its operands"),
    "a mistake in plain Python": (
        "return nothing",
        "[flow.py:10] the flow must trace without errors; NameError: name 'nothing' is not defined; correct this line",
    ),
    "endless recursion": (
        "return self.score(q, page)",
        "[flow.py:10] a flow must end; calls nested too deep; does a function call itself without end?",
    ),
    "a set for a score": (
        'return vx.top_k(vx.dot(q, page.mean, over="dim").sum("head"), 4)',
        "[flow.py:10] score must be one number a page, f32[] @page; a set of pages, set[] @page; choose pages in select: "
        "def select(self, score): return vx.top_k(score, 16)",
    ),
    "a score that is no value": (
        'return "high"',
        "[flow.py:9] score must return one number a page; str 'high'; return a value of the flow",
    ),
}


@pytest.mark.parametrize("name", SCORE_ERRORS)
def test_words_of_errors_in_score(name):
    body, message = SCORE_ERRORS[name]
    came = error_of(flow(body))
    assert came == message or (not message.startswith("[") and came.endswith(message))


def test_a_convolution_is_a_sum_of_shifts():
    short = "x = page.mean.sum('dim')\nreturn x.conv((0.25, 0.5, 2), other=1.0)"
    long = "x = page.mean.sum('dim')\nreturn 0.25 * x.shift(1, other=1.0) + 0.5 * x + 2 * x.shift(-1, other=1.0)"
    assert program(flow(short)).hash == program(flow(long)).hash


# Each case: the body of select, on line 13, and the whole message.
SELECT_ERRORS = {
    "a forgotten return": ("vx.top_k(score, 4)", "[flow.py:12] select returns a set of pages; nothing (None); end it with return ..."),
    "a number": ("return 4", "[flow.py:12] select returns a set of pages; int 4; make one: vx.top_k(score, 16), vx.top_p(score, 0.9)"),
    "fewer than no pages": (
        "return vx.top_k(score, -5)",
        "[flow.py:13] top_k takes at least 1 page; -5; say how many pages, or leave the set out",
    ),
    "no pages": ("return vx.first(0) | vx.last(4)", "[flow.py:13] first takes at least 1 page; 0; say how many pages, or leave the set out"),
    "a share in percent": ("return vx.top_p(score, 90)", "[flow.py:13] top_p takes a share above 0 and up to 1; 90; say 0.9, for example"),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECT_ERRORS)
def test_words_of_errors_in_select(name):
    body, message = SELECT_ERRORS[name]
    came = error_of(
        flow("return vx.dot(q, page.mean, over='dim').sum('head')")
        + f"\n    def select(self, score):\n        {body}\n"
    )
    assert came == message


def test_numbers_of_numpy_are_plain_numbers():
    body = "import numpy as np\nx = np.float64(2) * vx.dot(q, page.mean, over='dim').sum('head')\nreturn np.float32(1) - x / np.int64(3)"
    assert program(flow(body)).scores


# Each case: a whole file after the two import lines, and the message.
FILE_ERRORS = {
    "a syntax error": (
        "class Flow(vx.vFlow)\n    pass\n",
        "[flow.py:3] a flow file is valid Python; expected ':': class Flow(vx.vFlow); correct this line",
    ),
    "no flow": (
        "x = 1\n",
        "[flow.py] a flow file defines a class derived from vx.vFlow; none; write class MyFlow(vx.vFlow): ...",
    ),
    "two flows": (
        "class A(vx.vFlow):\n    score = None\nclass B(vx.vFlow):\n    score = None\n",
        "[flow.py] a file of several flows needs a name; A, B; write flow.py:A",
    ),
    "no score": (
        "class Flow(vx.vFlow):\n    budget = 4\n",
        "[flow.py:3] a flow must define score(self, q, page); class Flow without it; define it, or write score = None to attend the pinned pages only",
    ),
    "a misspelt setting": (
        "class Flow(vx.vFlow):\n    score = None\n    buget = 4\n",
        '[flow.py:5] the settings of a flow are page_size, budget, budget_ratio, sinks, recent, full_attention_layers, summary_dtype, reuse, refresh_every; "buget"; '
        'did you mean "budget"? If it is your own, give it another name',
    ),
    "a misspelt method": (
        "class Flow(vx.vFlow):\n    score = None\n    def sumarize(self, page):\n        pass\n",
        '[flow.py:5] the methods of a flow are summarize, score, select, rest, budget; "sumarize"; did you mean "summarize"? If it is your own, give it another name',
    ),
    "a setting out of range": (
        "class Flow(vx.vFlow):\n    page_size = 0\n    def score(self, page):\n        return page.index\n",
        "[flow Flow] page_size must be a whole number from 1 to 4096; 0; set page_size to such a value",
    ),
    "a setting of another kind": (
        'class Flow(vx.vFlow):\n    budget = "many"\n    def score(self, page):\n        return page.index\n',
        "[flow.py:4] budget must be a whole number; many; set budget to such a value",
    ),
    "budget of zero": (
        "class Flow(vx.vFlow):\n    budget = 0\n    def score(self, page):\n        return page.index\n",
        "[flow Flow] a flow that scores pages must have a budget; budget 0 and budget_ratio 0; set budget (pages a row) or budget_ratio (share of the pages)",
    ),
    "a budget of the page": (
        "class Flow(vx.vFlow):\n    def budget(self, page):\n        return 4\n    def score(self, page):\n        return page.index\n",
        '[flow.py:4] budget is given seq, layer, by name; "page"; use these names',
    ),
    "a budget that returns nothing": (
        "class Flow(vx.vFlow):\n    def budget(self, seq):\n        seq.pages * 0.1\n    def score(self, page):\n        return page.index\n",
        "[flow.py:4] budget returns how many pages a row attends; nothing (None); end it with return ...",
    ),
    "an unknown number of the sequence": (
        "class Flow(vx.vFlow):\n    def budget(self, seq):\n        return seq.page\n    def score(self, page):\n        return page.index\n",
        "[flow.py:5] budget knows seq.pages, seq.tokens, seq.step, seq.left; seq.page; did you mean seq.pages?",
    ),
    "an unknown argument": (
        "class Flow(vx.vFlow):\n    budget = 4\n    def score(self, q, pages):\n        return pages.index\n",
        '[flow.py:5] score is given q, page, seq, layer, by name; "pages"; did you mean "page"?',
    ),
    "a method without self": (
        "class Flow(vx.vFlow):\n    budget = 4\n    def score(q, page):\n        return page.index\n",
        "[flow.py:5] a method of a flow begins with self; score(q, page); write def score(self, q, page)",
    ),
    "a method that is a staticmethod": (
        "class Flow(vx.vFlow):\n    budget = 4\n    @staticmethod\n    def score(page):\n        return page.index\n",
        "[flow.py:6] a method of a flow begins with self; score as a staticmethod; write def score(self, ...) alone",
    ),
    "a method of nothing": (
        "class Flow(vx.vFlow):\n    budget = 4\n    def score():\n        return 3\n",
        "[flow.py:5] a method of a flow begins with self; score(); write def score(self)",
    ),
    "summarize that returns": (
        'class Flow(vx.vFlow):\n    score = None\n    def summarize(self, page):\n        return page.k.mean("token")\n',
        "[flow.py:5] summarize returns nothing; Value Value(f32[dim] @page); declare what is remembered: page.name = value",
    ),
    "index in summarize": (
        "class Flow(vx.vFlow):\n    score = None\n    def summarize(self, page):\n        page.x = page.index\n",
        "[flow.py:6] page.index exists in score; summarize; a summary is made from page.k and page.v alone",
    ),
    "a constant summary": (
        "class Flow(vx.vFlow):\n    budget = 4\n    def summarize(self, page):\n        page.x = 3\n    def score(self, page):\n        return page.x + page.index\n",
        "[flow.py:6] page.x must be made from page.k or page.v; a value that is the same for all pages; write it in score",
    ),
    "a value kept from summarize": (
        'class Flow(vx.vFlow):\n    budget = 4\n    def summarize(self, page):\n        self.k = page.k\n    def score(self, q, page):\n        return vx.dot(q, self.k, over="dim").sum("head").sum("token")\n',
        "[flow.py:8] page.k exists in summarize, q in score; one value made of both; store what score needs of the page as a summary: page.name = ...",
    ),
    "page axis in summarize": (
        'class Flow(vx.vFlow):\n    budget = 4\n    def summarize(self, page):\n        page.x = page.k.sum("page")\n    def score(self, page):\n        return page.x\n',
        '[flow.py:6] summarize sees one page, so there is no axis "page"; sum over "page" of a value made from page.k; work over "page" in score',
    ),
    "a split that does not divide": (
        'class Flow(vx.vFlow):\n    budget, page_size = 4, 16\n    def summarize(self, page):\n        page.x = page.k.split("token", sub=3).sum("sub").sum("token").sum("dim")\n'
        "    def score(self, page):\n        return page.x\n",
        "[flow.py:6] page_size must make token/3 a whole number; page_size 16; choose another page_size or another split",
    ),
    "the name of another package": (
        "import vortex\n",
        "[flow.py:3] the flow file must run without errors; ModuleNotFoundError: No module named 'vortex'; write import vortex_attention as vx",
    ),
    "a share as the budget": (
        "class Flow(vx.vFlow):\n    budget = 0.1\n    def score(self, page):\n        return page.index\n",
        "[flow.py:4] budget must be a whole number; 0.1; a share of the pages is budget_ratio",
    ),
    "a file that opens files": (
        "open('weights.json')\n",
        "[flow.py:3] a flow file computes and no more: it opens no files and no sockets, starts no processes and no threads; FileNotFoundError: [Errno 2] "
        "No such file or directory: 'weights.json'; leave it out; write numbers into the file, or into a module beside it",
    ),
    "a failing import": (
        "import nothing_of_this_name\n",
        "[flow.py:3] the flow file must run without errors; ModuleNotFoundError: No module named 'nothing_of_this_name'; a flow file may import the standard library, NumPy, and the modules beside it",
    ),
}


@pytest.mark.parametrize("name", FILE_ERRORS)
def test_words_of_errors_in_files(name):
    body, message = FILE_ERRORS[name]
    assert error_of(body) == message


def test_trace_wants_a_class():
    with pytest.raises(vx.UserError, match="a class derived from vFlow"):
        vx.trace(vx.vFlow)


def test_a_score_that_is_a_plain_number_has_the_line_of_score():
    source = "class Flat(vx.vFlow):\n    budget = 8\n    def score(self, q, page):\n        return 3\n"
    assert error_of(source).startswith(
        "[flow.py:5] score must be one number a page, f32[] @page; f32[] @layer, the same for all pages;"
    )
