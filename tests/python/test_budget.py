"""The budget that a flow computes: as a method, and as a snippet of CUDA C++. What it attends, in the language and in the
engine, and the words of every error."""

import textwrap

import numpy as np
import pytest
from reference.random_model import random_llama

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.language import tracer
from vortex_attention.models import load_model

TOKENS = [1, 17, 160, 161, 1600, 16000]


def program(body: str) -> _core.Program:
    head = (
        "import vortex_attention as vx\nclass Flow(vx.vFlow):\n    def score(self, page):\n        return page.index\n"
    )
    return _core.parse_flow(tracer.trace_source(head + textwrap.indent(textwrap.dedent(body), "    "), "flow.py", None))


def snippet(code: str, numbers: str = "topk_val, topk_ratio = 6, 0.5") -> _core.Program:
    return program(f'{numbers}\nbudget = """{code}"""\n')


def attended(flow: _core.Program, **place) -> list[int]:
    flow.verify()
    assert _core.parse_flow(flow.text()) == flow and _core.parse_flow_json(flow.json()) == flow
    return [flow.rows(tokens, **place)["attended"] for tokens in TOKENS]


def clamped(wanted, pinned=3):
    """What a function of the number of pages gives once it is bounded by the pinned pages and all of them."""
    out = []
    for tokens in TOKENS:
        pages = -(-tokens // 16)
        out.append(int(min(max(np.floor(wanted(pages)), min(pinned, pages)), pages)))
    return out


def test_a_method_says_how_many_pages():
    flow = program("""
        def budget(self, seq, layer):
            return vx.where(layer.index < 2, seq.pages, vx.maximum(8, 0.1 * seq.pages))
    """)
    assert attended(flow, layer=1, layers=4) == clamped(lambda pages: pages)
    assert attended(flow, layer=2, layers=4) == clamped(lambda pages: max(8, 0.1 * pages))


def test_what_a_budget_may_read():
    flow = program("""
        def budget(self, seq, layer):
            return 4 + seq.step + layer.index / layer.count + 0.0 * seq.tokens
    """)
    assert flow.rows(1600, step=3, layer=3, layers=4)["attended"] == 7
    assert flow.rows(1600, step=3, layer=4, layers=4)["attended"] == 8


def test_out_of_range_is_bounded():
    assert attended(program("def budget(self, seq):\n    return seq.pages - 1000")) == clamped(
        lambda pages: pages - 1000
    )
    assert attended(snippet("return cached_block_len - 1000;")) == clamped(lambda pages: pages - 1000)
    assert attended(snippet("if (0) return -1; return 5; return -2;")) == clamped(lambda pages: 5)
    assert attended(program("def budget(self, seq):\n    return 1e30")) == clamped(lambda pages: pages)
    assert attended(program("def budget(self, seq):\n    return (seq.pages - seq.pages) / 0.0")) == clamped(
        lambda pages: 0
    )


def test_a_budget_below_zero_is_refused():
    with pytest.raises(vx.UserError) as caught:
        program("def budget(self, seq):\n    return 3 - 8")
    assert str(caught.value) == (
        "[flow.py:5] budget is a number of pages, 0 or more; -5; say how many pages a row attends"
    )


def test_settings_take_its_place():
    flow = program("def budget(self, seq):\n    return seq.pages * 0.5")
    given = flow.with_settings({"budget": "20"})
    assert attended(given) == clamped(lambda pages: 20)
    plain = _core.parse_flow(given.canonical().text())
    assert given.hash == plain.hash != flow.hash and "budget = %" not in plain.text()


CODES = {
    "return topk_val + block_reserved_bos + block_reserved_eos;": lambda pages: 9,
    "return (int)(cached_block_len * 0.25f);": lambda pages: pages // 4,
    "int a = cached_block_len / 3; return a % 7;": lambda pages: pages // 3 % 7,
    "return max(topk_val + 3, static_cast<int>(cached_block_len * topk_ratio));": lambda pages: max(9, pages // 2),
    "if (cached_block_len < 50) return cached_block_len;\nelse if (cached_block_len < 500) { return 40; }\nreturn 30;": lambda pages: (
        pages if pages < 50 else 40 if pages < 500 else 30
    ),
    "int b = 4; if (cached_block_len > 20 && !(cached_block_len == 100)) { b += 6; } return b;": lambda pages: (
        10 if pages > 20 and pages != 100 else 4
    ),
    "int sum = 0; for (int i = 0; i < 4; ++i) { if (i != 2) sum += i; } // 0 + 1 + 3\nreturn sum;": lambda pages: 4,
    "float x = 7.9f; int y = x; y++; return y > 8 ? 100 : cached_block_len > 20 ? y : 5;": lambda pages: (
        8 if pages > 20 else 5
    ),
    "return -7 / 2 + 3 * 4 - 1 /* -3 + 11 */;": lambda pages: 8,
    "const int low = 5; return fmaxf(low, ceilf(sqrtf(cached_block_len)));": lambda pages: max(
        5, np.ceil(np.sqrt(pages))
    ),
    "return topk_ratio * 10 + 0.5f;": lambda pages: 5,
    "int n = 3; { int m = 4; n = m; } return n * 2 <= 8 || n < 0;": lambda pages: 1,
}


@pytest.mark.parametrize("code", CODES)
def test_a_snippet_says_the_same(code):
    assert attended(snippet(code, "topk_val, topk_ratio = 6, 0.5")) == clamped(CODES[code])


def test_a_snippet_reads_the_settings():
    flow = snippet("return block_reserved_bos * 10 + block_reserved_eos;", "sinks = 2\nrecent = 4")
    assert attended(flow) == clamped(lambda pages: 24, pinned=6)


ERRORS = {
    "while (1) {}": '1:1] a snippet must end, so its loops are for loops over constants; "while"; write for (int i = 0; i < 8; ++i), or no loop',
    "for (int i = 0; i < cached_block_len; ++i) {}": "1:1] a snippet must end, so its loops are for loops over constants; a loop over a value; use arithmetic instead of counting",
    "for (int i = 0; i < 2000; ++i) {} return 1;": "1:1] the loops of a snippet turn at most 1024 times in all; more; use arithmetic instead of counting",
    "for (int i = 0; i < 3 4; ++i) {} return 1;": '1:23] ";" is needed; "4"; check this line',
    "for (int i = 0; i < 3; ++i 4) {} return 1;": '1:28] ")" is needed; "4"; check this line',
    "int a = 1;\nint b = 2;": "2:15] every path of a snippet returns a number of pages; the end of it without return; end it with return ...",
    "if (cached_block_len > 3) return 4;": "1:36] every path of a snippet returns a number of pages; the end of it without return; end it with return ...",
    "return\n  cached_block_length;": '2:7] a snippet knows block_reserved_bos, block_reserved_eos, topk_ratio, topk_val, cached_block_len, layer_count, layer_index, seq_step, seq_tokens; "cached_block_length"; did you mean "cached_block_len"?',
    "return system(1);": '1:8] a snippet calls abs, ceil, ceilf, exp, expf, fabs, fabsf, floor, floorf, fmax, fmaxf, fmin, fminf, log, logf, max, min, pow, powf, sqrt, sqrtf; "system"; write it with these',
    "return min(1);": "1:8] min takes 2 numbers; 1; check its operands",
    "return 1 << 4;": '1:10] a snippet is arithmetic, comparisons, if, for and return; "<<"; write it without this sign',
    "return *topk_val;": '1:8] a number, a variable or a call is needed; "*"; check this line',
    "int a = 1; int a = 2; return a;": '1:16] a variable is declared once; "a" twice; choose another name, or assign without a type',
    "topk_val = 3; return topk_val;": '1:1] a variable is declared before it changes; "topk_val"; copy it into a variable of your own',
    "return 5 % 2.5f;": "1:10] % takes whole numbers; a real number; cast it: (int)x",
    "return 5 / 0;": "1:10] a divisor that is not zero; 0; divide by another number",
    "return 5": '1:9] ";" is needed; the end of the snippet; check this line',
    "return 0x10;": '1:9] a number is digits, and f, u or l at its end; "x"; write a decimal number',
    "int n = 4;\nreturn n - 9;": "2:5] a snippet returns a number of pages, 0 or more; -5; return how many pages a row attends",
    "if (cached_block_len > 3) return -1; return 4;": "1:27] a snippet returns a number of pages, 0 or more; -1; return how many pages a row attends",
    "return " + "(" * 80 + "1" + ")" * 80 + ";": "expressions nest at most 64 deep; deeper; use variables",
}


@pytest.mark.parametrize("code", ERRORS)
def test_errors_name_line_and_column(code):
    with pytest.raises(vx.UserError) as caught:
        snippet(code)
    message = str(caught.value)
    assert message.startswith("[flow.py:6, budget ") and message.endswith(ERRORS[code]), message


def test_a_long_snippet_is_refused_at_once():
    with pytest.raises(vx.UserError, match="a snippet has at most 16384 bytes"):
        snippet("return 1;" + " " * 20000)


def test_a_snippet_cannot_take_long():
    names = "".join(f"int {a}{b};" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyz"[:20])
    code = f"{names}for (int i = 0; i < 1000; ++i) {{ {'if (0);' * 1000} }} return 1;"
    with pytest.raises(
        vx.UserError, match="a snippet of a few thousand statements, its loops written out; more; use fewer"
    ):
        snippet(code)


def test_the_engine_attends_what_the_budget_says(tmp_path):
    loaded = load_model(random_llama(tmp_path / "tiny.gguf", seed=3), threads=1)
    bench = _core.Workbench(loaded.model, page_size=4, pages=1024, max_batch=8, threads=2)
    flow = vx.load_flow("centroid").with_settings({"page_size": "8"})
    text = flow.text().replace(f"budget={flow.config.budget}", "budget=0") + (
        f"%{flow.values} = seq_pages()\n%{flow.values + 1} = layer_index()\n%{flow.values + 2} = constant(value=5)\n"
        f"%{flow.values + 3} = mul(%{flow.values + 1}, %{flow.values + 2})\n%{flow.values + 4} = sub(%{flow.values}, %{flow.values + 3})\n"
        f"budget = %{flow.values + 4}\n"
    )
    flow = _core.parse_flow(text)
    flow.verify()
    prompt = [int(t) for t in np.random.default_rng(1).integers(0, loaded.config.vocabulary, 203)]
    dense = bench.prefill(prompt)
    sequences = [bench.fork(dense, bench.load_flow(flow)), bench.fork(dense, -1)]
    bench.record_pages(True)
    for step in range(8):
        sparse, full = bench.decode(sequences, [7 + step, 7 + step])
        tokens = len(prompt) + step + 1
        for layer in range(loaded.config.layers):
            wanted = flow.rows(tokens, step=step, layer=layer, layers=loaded.config.layers)["attended"]
            for head in range(loaded.config.kv_heads):
                assert len(bench.page_list(sequences[0], layer, head)) == wanted == max(-(-tokens // 8) - 5 * layer, 3)
        assert not np.array_equal(sparse, full)
    bench.check_integrity()
