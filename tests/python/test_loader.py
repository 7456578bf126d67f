"""Loading flows: ready ones by name, files through the tracer process with its limits."""

import os
import subprocess
import sys
import time

import pytest

import vortex_attention as vx
from vortex_attention import flows
from vortex_attention.language import beside, loader, sandbox

GOOD = """
import vortex_attention as vx

class Flow(vx.vFlow):
    budget = 4
    def summarize(self, page):
        page.mean = page.k.mean("token")
    def score(self, q, page):
        return vx.dot(q, page.mean, over="dim").sum("head")
"""


@pytest.fixture
def write(tmp_path):
    def make(source: str, name: str = "flow.py") -> str:
        path = tmp_path / name
        path.write_text(source)
        return str(path)

    return make


def test_every_ready_flow_loads():
    assert flows.names() == [
        "bounding_volumes",
        "centroid",
        "centroid_rest",
        "centroid_rest_groups",
        "centroid_tree",
        "heavy_hitters",
        "hierarchical",
        "hysteresis",
        "latent_content",
        "learned_indexer",
        "mean_deviation",
        "oracle",
        "quest",
        "random_pages",
        "recent_only",
        "representatives",
        "shared_pairs",
        "slow_means",
        "streaming",
        "sub_centroid",
        "sub_envelopes",
        "top_p",
        "two_streams",
        "value_norm",
    ]
    for name in flows.names():
        flow = flows.load(name)
        assert (
            flow.doc
            and flow.config.budget in (0, 32)
            and ("vx.vFlow" in flow.source or "(Centroid)" in flow.source)
            and len(flow.source.splitlines()) <= 40
        )
    assert len({flows.load(name).hash for name in flows.names()}) == len(flows.names())


def test_settings_by_keyword_make_another_flow():
    quest, wide = vx.load_flow("quest"), vx.load_flow("quest", budget=64, full_attention_layers=[0, 1])
    assert (wide.config.budget, wide.config.full_attention_layers) == (64, [0, 1])
    assert quest.hash != wide.hash and quest.config.budget == 32


def test_a_file_gives_its_program(write):
    program = vx.load_flow(write(GOOD))
    assert program.summaries == {"mean": "f32[dim] @page"}
    assert flows.load(write(GOOD, "mine.py")).name == "mine"


def test_text_and_json_of_a_program_load_as_well(write):
    quest = vx.load_flow("quest")
    assert vx.load_flow(write(quest.text(), "quest.txt")) == quest
    assert vx.load_flow(write(quest.json(), "quest.json")) == quest


def test_one_of_several_flows_by_name(write):
    path = write(GOOD + GOOD.replace("Flow(vx", "Other(vx").replace("budget = 4", "budget = 8"))
    assert vx.load_flow(path + ":Other").config.budget == 8
    with pytest.raises(
        vx.UserError, match="a flow called Othre; the file defines Flow, Other; did you mean .*flow.py:Other"
    ):
        vx.load_flow(path + ":Othre")
    with pytest.raises(vx.UserError, match="a file of several flows needs a name; Flow, Other; write .*:Flow"):
        vx.load_flow(path + ":")


def test_control_characters_in_a_docstring_become_blanks(write):
    evil = GOOD.replace("(vx.vFlow):", '(vx.vFlow):\n    """Red \x1b[31m, right\u202e.\n\n    é"""', 1)
    assert vx.load_flow(write(evil)).doc == "Red  [31m, right .\n\né"


@pytest.mark.parametrize(
    "flow, words",
    [
        (
            "qest",
            'top_p, two_streams, value_norm; "qest"; did you mean "quest"?',
        ),
        ("/no/such/file.py", "a flow file that can be read; No such file or directory; check the path"),
    ],
)
def test_names_and_paths_that_lead_nowhere(flow, words):
    with pytest.raises(vx.UserError) as caught:
        vx.load_flow(flow)
    assert words in str(caught.value)


def refused(path: str) -> str:
    with pytest.raises(vx.UserError) as caught:
        vx.load_flow(path)
    return str(caught.value)


def test_lines_of_the_file_come_through(write):
    path = write(GOOD.replace('"dim"', '"dmis"'))
    assert (
        refused(path)
        == f'[{path}:9] the value must have the axis "dmis"; a value of type f32[head, dim] @row; use one of "head", "dim"'
    )


def test_too_large_and_not_text(write, tmp_path):
    assert "at most 256 KiB" in refused(write("#" * (300 << 10)))
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8 text" in refused(str(tmp_path / "bytes.py"))
    assert "valid Python" in refused(write("x = '\0'"))


def test_a_killed_server_starts_anew(write):
    path = write(GOOD)
    vx.load_flow(path)
    for server in sandbox._servers.values():
        if server.running():
            server.process.kill()
            server.process.wait()
    write(GOOD + "\n")  # other text, so that it is traced again
    assert vx.load_flow(path).scores


def median_seconds(action, times: int = 9) -> float:
    taken = []
    for turn in range(times):
        started = time.perf_counter()
        action(turn)
        taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2]


def test_file_to_program_is_quick(write):
    """Tracing, reading and verifying in a warm process; the bound is generous for a busy machine, a quiet one takes a tenth of it."""
    paths = [write(GOOD + f"# {turn} {time.time()}", f"flow{turn}.py") for turn in range(9)]
    vx.load_flow(write(GOOD))
    assert median_seconds(lambda turn: vx.load_flow(paths[turn])) < 0.200


def test_a_file_that_did_not_change_is_not_run_again(write, monkeypatch, tmp_path):
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    path = write(GOOD)
    first = loader.read_file(path)
    monkeypatch.setattr(sandbox, "server_for", lambda *_: pytest.fail("the file ran again"))
    again = loader.read_file(path)
    assert (first.kept, again.kept, again.sandbox) == (False, True, first.sandbox) and again.program == first.program
    monkeypatch.undo()
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache" / "traces").iterdir()
    for damage in ("", "{", '{"text": 3}', '{"text": "vortex_ir 1", "sandbox": "landlock"}', "[" * 100_000):
        kept.write_text(damage)
        assert not loader.read_file(path).kept
    assert not loader.read_file(write(GOOD.replace("4", "5"))).kept
    write("scale = 2\n", "helper.py")
    path = write("import helper\n" + GOOD.replace("return", "return helper.scale *"))
    twice = loader.read_file(path)
    write("scale = 3\n", "helper.py")
    assert not loader.read_file(path).kept and loader.read_file(path).program != twice.program
    assert not loader.read_file(path, trust_flow=True).kept


def test_a_cache_that_cannot_be_written_keeps_nothing(write, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    path = write(GOOD)
    assert not loader.read_file(path).kept and not loader.read_file(path).kept


def test_imports_are_found_in_the_time_of_the_text(tmp_path):
    """In this process, of a text that nobody has confined yet."""
    began = time.monotonic()
    assert beside.gather(str(tmp_path / "flow.py"), "from " + "a" * 400_000) == {}
    assert time.monotonic() - began < 20, "a square of the length takes minutes"
    (tmp_path / "one.py").write_text("from two.three import x")
    (tmp_path / "two.py").write_text("y = 1")
    assert set(beside.gather(str(tmp_path / "flow.py"), "  from one import x")) == {"one", "two"}


def test_nothing_is_left_running(write):
    """A program that loads a file and ends leaves no tracer behind and says nothing."""
    code = f"import vortex_attention as vx; vx.load_flow({write(GOOD)!r}); from vortex_attention.language import loader, sandbox; print(next(s for s in sandbox._servers.values() if s.running()).process.pid)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": os.path.dirname(sandbox._PACKAGE), "PATH": os.environ["PATH"]},
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
