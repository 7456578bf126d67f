"""What a flow carries from step to step: state in the language, on the CPU against the interpreter, and through the engine; sets that
layers and steps share."""

import numpy as np
import pytest

import vortex_attention as vx
from vortex_attention import _core, flows

BEGIN = "import vortex_attention as vx\n"


def load(tmp_path, source: str):
    path = tmp_path / "flow.py"
    path.write_text(BEGIN + source)
    return vx.load_flow(path)


SCORE = "class Flow(vx.vFlow):\n    budget = 4\n    def score(self, q, page, seq):\n"
MISTAKES = {
    "set twice": (
        SCORE + '        a = page.keep("a")\n        a.set(1)\n        a.set(a + page.index)\n        return a\n',
        '[flow.py:7] a state is set once in a step; "a" twice; set it to vx.where(condition, a, b), or keep two states',
    ),
    "never set": (
        SCORE + '        return page.keep("a") + page.index\n',
        '[flow.py:5] the state "a" is set in every step; a state that is never set; say what it is in the next step: its .set(value)',
    ),
    "never used": (
        SCORE + '        a = page.keep("a")\n        a.set(a + 1)\n        return page.index\n',
        '[flow.py:6] every state must be used by score or select: it costs memory and time in every step; "a", which neither uses; use it, or delete it',
    ),
    "read without keep": (
        SCORE + "        return page.acc\n",
        '[flow.py:5] score knows page.index, page.tokens; page.acc; declare it in summarize: page.acc = ...; what is carried from step to step is page.keep("acc", 0.0)',
    ),
    "set of what is no state": (
        SCORE + '        s = q.sum("dim")\n        s.set(1)\n        return page.index\n',
        "[flow.py:6] only a state is set: what page.keep or seq.keep gave; .set() of a value f32[head] @row; keep what keep() returns in a variable, and set that",
    ),
    "a set of pages": (
        SCORE + '        a = page.keep("a")\n        a.set(vx.top_k(page.index, 2))\n        return a\n',
        "[flow.py:6] a state holds numbers; set[] @page, a set of pages; set it to vx.where(set, 1.0, 0.0)",
    ),
    "of the page in the sequence": (
        SCORE + '        a = seq.keep("a")\n        a.set(page.index)\n        return a * page.index\n',
        '[flow.py:6] what is set to "a" is one for the sequence, f32[] @row; f32[] @page; reduce the axis "page", or keep it of the page: page.keep',
    ),
    "an axis too many": (
        SCORE + '        a = page.keep("a")\n        a.set(q.sum("dim"))\n        return a\n',
        '[flow.py:6] what is set to "a" has the axes of f32[] @page; f32[head] @row; reduce the axis "head", or keep it: page.keep(name, initial, "head")',
    ),
    "an axis nobody knows": (
        SCORE + '        return page.keep("a", 0.0, "heads")\n',
        '[flow.py:5] declared axes are "head", "token", "dim", or a name and its size; "heads"; give its size by name, as in sub=4',
    ),
    "another initial value": (
        SCORE + '        a = page.keep("a", 0.0)\n        a.set(page.index)\n        return a + page.keep("a", 1.0)\n',
        '[flow.py:7] a state is read everywhere with one initial value, and axes, of the page or of the sequence; "a" as f32[] @page from 0 on and otherwise; read it once, or choose another name',
    ),
    "an initial value of the page": (
        SCORE + '        return page.keep("a", page.index)\n',
        "[flow.py:5] page.keep(name, initial, axes...) takes a plain number as the initial value; a value f32[] @page; what differs from page to page is set in the first step",
    ),
    "no name": (
        SCORE + "        return seq.keep(1)\n",
        '[flow.py:5] seq.keep(name, initial, axes...) takes a name; int 1; say seq.keep("acc", 0.0)',
    ),
    "in summarize": (
        'class Flow(vx.vFlow):\n    budget = 4\n    def summarize(self, page):\n        page.a = page.keep("a")\n    score = None\n',
        "[flow.py:5] page.keep exists in score and select: state advances in every step; summarize, which runs once; what a page is remembered by is a summary: page.name = value",
    ),
    "a summary called keep": (
        'class Flow(vx.vFlow):\n    budget = 4\n    def summarize(self, page):\n        page.keep = page.k.mean("token")\n    score = None\n',
        "[flow.py:5] a summary has a name of its own; page.keep; choose another name",
    ),
    "the name of a summary": (
        'class Flow(vx.vFlow):\n    budget = 4\n    def summarize(self, page):\n        page.m = page.k.mean("token")\n'
        '    def score(self, page):\n        return page.keep("m")\n',
        "[flow.py:7] a state has a name of its own; page.m, a summary; choose another name",
    ),
    "a budget of state": (
        'class Flow(vx.vFlow):\n    def budget(self, seq):\n        return seq.keep("a")\n    def score(self, page):\n        return page.index\n',
        "[flow.py:4] budget knows seq.pages, seq.tokens, seq.step, seq.left; seq.keep; use one of them",
    ),
    "refreshed at times": (
        'class Flow(vx.vFlow):\n    budget, refresh_every = 4, 3\n    def score(self, page):\n        a = page.keep("a")\n        a.set(a + page.index)\n        return a\n',
        "[flow.py:6] state advances at every decode step; refresh_every 3; leave one of them out",
    ),
    "reuse that is no dictionary": (
        'class Flow(vx.vFlow):\n    score = None\n    reuse = "pairs"\n',
        "[flow.py:4] reuse must be pairs LAYER:EARLIER_LAYER such as 5:4,7:6, or how many layers in a row share a set; pairs; set reuse to such a value",
    ),
    "reuse of no layers": (
        "class Flow(vx.vFlow):\n    score = None\n    reuse = 0\n",
        "[flow Flow] reuse must be a whole number from 1 to 4096; 0; set reuse to such a value",
    ),
    "reuse of a later layer": (
        "class Flow(vx.vFlow):\n    score = None\n    reuse = {4: 5}\n",
        "[flow Flow] reuse must be the set of an earlier layer; layer 4 takes that of layer 5; set reuse to such a value",
    ),
    "layers that are no dictionary": (
        "class Flow(vx.vFlow):\n    score = None\n    layers = 4\n",
        '[flow.py:4] layers is a dictionary, layers → flow; int 4; write layers = {(0, 1): "streaming", "8-11": Other}',
    ),
    "a flow for a layer that nobody knows": (
        'class Flow(vx.vFlow):\n    score = None\n    layers = {0: "streamin"}\n',
        "[flow.py:4] layers names classes derived from vFlow, or ready flows; str 'streamin'; did you mean \"streaming\"?",
    ),
    "two flows for a layer": (
        'class Flow(vx.vFlow):\n    score = None\n    layers = {"0-3": "streaming", (3, 4): "recent_only"}\n',
        "[flow.py:4] a layer has one flow; layer 3 with Streaming and RecentOnly; leave one out",
    ),
    "never refreshed": (
        "class Flow(vx.vFlow):\n    score = None\n    refresh_every = 0\n",
        "[flow Flow] refresh_every must be a whole number from 1 to 1048576; 0; set refresh_every to such a value",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_words_of_a_mistake(tmp_path, name):
    source, words = MISTAKES[name]
    with pytest.raises(vx.UserError) as error:
        load(tmp_path, source)
    assert str(error.value).replace(f"{tmp_path}/", "") == words


def test_a_flow_in_python_and_in_cpp_has_one_hash():
    """tests/unit/ir/flow_test.cpp writes the same flow in C++."""
    flow = vx.load_flow("hysteresis", reuse={1: 0, 3: 2})
    assert flow.hash == "78955b293290818d"
    assert flow.states == {"held": "f32[] @page"} and flow.config.reuse == {1: 0, 3: 2}
    assert _core.parse_flow(flow.text()) == flow and _core.parse_flow_json(flow.json()) == flow
    assert vx.load_flow("hysteresis", reuse={}).hash == vx.load_flow("hysteresis").hash != flow.hash


def test_axes_by_name_and_by_size(tmp_path):
    flow = load(
        tmp_path,
        SCORE
        + '        a = seq.keep("a", 1.0, "head", "dim")\n        b = page.keep("b", 0.0, lane=4)\n        a.set(vx.maximum(a, q))\n'
        '        b.set(b + page.index)\n        return b.sum("lane") + vx.dot(a, q, over="dim").sum("head")\n',
    )
    assert flow.states == {"a": "f32[head, dim] @row", "b": "f32[lane=4] @page"}


@pytest.mark.parametrize("name", [name for name in flows.names() if flows.load(name).program.states])
def test_ready_flows_step_as_the_interpreter(name):
    program = flows.load(name, budget=12).program
    flow = _core.cpu_flow(program, head_dim=32, group=3)
    random = np.random.default_rng(3)
    pages, tokens = 30, 33 * 16
    keys = random.standard_normal((pages, 16, 32), dtype=np.float32)
    summaries = flow.summarize(keys, keys)
    doubles = {name: array.astype(np.float64) for name, array in summaries.items()}
    states, exact = {}, {}
    for step in range(6):
        q = random.standard_normal((3, 32), dtype=np.float32) * np.float32(0.3)
        where = {"tokens": tokens + step, "step": step}
        scores, states = flow.step(q, summaries, states, first_page=1, **where)
        expected = _core.interpret_scores(
            program, q.astype(np.float64), doubles, list(range(1, pages + 1)), states=exact, **where
        )
        exact = _core.interpret_states(
            program, q.astype(np.float64), doubles, list(range(1, pages + 1)), exact, **where
        )
        order = np.argsort(-expected, kind="stable")[:9]
        assert set(np.argsort(-scores, kind="stable")[:9]) == set(order)
        assert states.keys() == exact.keys()
        for state, values in exact.items():
            assert np.allclose(states[state], values, rtol=1e-4, atol=1e-6)


def test_layers_have_flows_of_their_own(tmp_path):
    """tests/unit/ir/flow_test.cpp writes the same flow in C++."""
    flow = load(
        tmp_path,
        "class Index(vx.vFlow):\n    budget = 8\n    layers = {}\n    def score(self, page):\n        return page.index\n",
    )
    pinned = load(tmp_path, "class Pinned(vx.vFlow):\n    score = None\n")
    mixed = flow.with_layers("0-1", pinned)
    assert mixed.hash == "8050558513611708"
    ((layers, other),) = mixed.layers
    assert layers == [0, 1] and other == pinned
    assert vx.load_flow("centroid", layers={(0, 1): "streaming"}) == vx.load_flow("centroid", layers="0-1:streaming")
    assert mixed.rows(16 * 40, layer=1)["attended"] == 3 and mixed.rows(16 * 40, layer=2)["attended"] == 8
    with pytest.raises(
        vx.UserError, match=r"^\[layers\] pairs LAYERS:FLOW such as 0-3:streaming,5:quest; '0-3'; write them like that$"
    ):
        vx.load_flow("centroid", layers="0-3")


def test_a_class_names_classes_for_its_layers(tmp_path):
    path = tmp_path / "several.py"
    path.write_text(
        BEGIN + "class Pinned(vx.vFlow):\n    score = None\n"
        'class Mixed(vx.vFlow):\n    budget = 8\n    layers = {(0, 1): Pinned, "2": "quest"}\n'
        "    def score(self, page):\n        return page.index\n"
    )
    mixed = vx.load_flow(f"{path}:Mixed")
    assert [(layers, other.name) for layers, other in mixed.layers] == [([0, 1], "Pinned"), ([2], "Quest")]
