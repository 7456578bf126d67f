"""Loading flows: ready ones by name, files through the tracer process with its limits."""

import subprocess
import sys
import time

import pytest

import vortex_attention as vx
from vortex_attention import flows
from vortex_attention.language import loader

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
        "mean_deviation",
        "oracle",
        "quest",
        "random_pages",
        "recent_only",
        "slow_means",
        "streaming",
        "sub_centroid",
        "top_p",
        "two_streams",
        "value_norm",
    ]
    for name in flows.names():
        flow = flows.load(name)
        assert (
            flow.doc and flow.config.budget in (0, 32) and "vx.vFlow" in flow.source and len(flow.source.splitlines()) <= 40
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
    with pytest.raises(vx.UserError, match="a flow called Othre; the file defines Flow, Other; check the name"):
        vx.load_flow(path + ":Othre")


@pytest.mark.parametrize(
    "flow, words",
    [
        (
            "qest",
            'random_pages, recent_only, slow_means, streaming, sub_centroid, top_p, two_streams, value_norm; "qest"; did you mean "quest"?',
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import signal\nsignal.alarm(0)\nimport time\ntime.sleep(60)",
        GOOD.replace("return vx", "while True: pass\n        return vx"),
    ],
)
def test_a_file_that_never_ends_is_stopped(write, source):
    loader.warm()
    path = write(source)
    started = time.monotonic()
    assert refused(path) == f"[{path}] a flow traces within 2 s; it was still running; does a loop never end?"
    assert time.monotonic() - started < 2.5


def test_a_file_that_eats_memory_is_stopped(write):
    path = write("x = bytearray(8 << 30)")
    assert refused(path) == f"[{path}] a flow traces within 2 GiB of memory; more; does a loop build ever more?"


def test_a_file_that_ends_the_process(write):
    assert "a flow traces without ending its process" in refused(write("import os\nos._exit(3)"))
    assert "SystemExit" in refused(write("raise SystemExit"))
    assert "[" in refused(write("import os\nos.kill(os.getppid(), 0)\nos.abort()"))
    assert vx.load_flow(write(GOOD)).scores


def test_a_file_cannot_write_files(write, tmp_path):
    write_attempt = f"open({str(tmp_path / 'made')!r}, 'w').write('x' * 10)\n"
    assert (
        "the flow file must run without errors" in refused(write(write_attempt))
        or (tmp_path / "made").stat().st_size == 0
    )


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
    loader._server.process.kill()
    loader._server.process.wait()
    assert vx.load_flow(path).scores


def test_file_to_program_is_quick(write):
    """The centre of several loads in a warm process; the bound is generous for a busy machine, a quiet one takes 3 ms."""
    path = write(GOOD)
    vx.load_flow(path)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        vx.load_flow(path)
        times.append(time.perf_counter() - started)
    assert sorted(times)[4] < 0.020


def test_nothing_is_left_running(write):
    """A program that loads a file and ends leaves no tracer behind and says nothing."""
    code = f"import vortex_attention as vx; vx.load_flow({write(GOOD)!r}); from vortex_attention.language import loader; print(loader._server.process.pid)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": loader._ROOT},
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        import os

        os.kill(int(done.stdout), 0)
