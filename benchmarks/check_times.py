"""How long a designer waits: tracing, verifying and pricing in a warm process, a file through the sandbox, a flow of 500 ops, and the
whole command. Prints medians of wall time, the processor's time beside them (what a busy machine leaves alone), and the least.

    PYTHONPATH=python python benchmarks/check_times.py

Python's compiled files are to be there (a checkout run with PYTHONDONTWRITEBYTECODE compiles every module at every start).
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from vortex_attention import _core, flows
from vortex_attention.models.geometry import geometry_of
from vortex_attention.language import loader, sandbox
from vortex_attention.language.flow import trace
from vortex_attention.measure import devices

LONG = """import vortex_attention as vx

class Long(vx.vFlow):
    budget = 32
    def summarize(self, page):
        page.mean = page.k.mean("token")
    def score(self, q, page):
        x = vx.dot(q, page.mean, over="dim")
        for turn in range(248):
            x = (x * (1.0 + turn / 1000)).tanh()
        return x.softmax("page").sum("head")
"""


def processor() -> float:
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def show(what: str, action, times: int) -> None:
    wall, busy = [], []
    for turn in range(times):
        started, before = time.perf_counter(), processor()
        action(turn)
        busy.append(1000 * (processor() - before))
        wall.append(1000 * (time.perf_counter() - started))
    print(f"{what:62}{statistics.median(wall):9.1f}{statistics.median(busy):11.1f}{min(wall):9.1f}", flush=True)


def main() -> None:
    shape = geometry_of("smollm2")
    classes = {}
    for name in flows.names():
        flows.ready(name)
        module = sys.modules[f"vortex_attention.flows.{name}"]
        (classes[name],) = (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__)

    def price(program) -> None:
        plan = _core.compile_flow(program, **shape.bound)
        for context in (1024, 8192):
            said = _core.price(plan, **shape.workload, context=context, batch=8)
            devices.predict(said, devices.GPUS["h200"], layers=shape.layers, kv_heads=shape.kv_heads, batch=8)

    print(f"{'milliseconds':62}{'median':>9}{'processor':>11}{'least':>9}")
    names = list(classes)
    show(
        "trace, verify, price a ready flow, all of them in turn",
        lambda turn: price(trace(classes[names[turn % len(names)]])),
        5 * len(names),
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VORTEX_CACHE"] = folder
        source = open(os.path.join(flows.__path__[0], "quest.py"), encoding="utf-8").read()
        path = os.path.join(folder, "quest.py")

        def write(text: str) -> None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

        def changed(turn: int) -> None:
            write(f"{source}# {turn}\n")
            price(loader.load_file(path))

        write(source)
        loader.warm()
        print(f"  (sandbox: {next(way for way, server in sandbox._servers.items() if server.running())})")
        show("a changed file: sandbox, verify, price", changed, 41)
        show("the same file again: kept trace, verify, price", lambda turn: price(loader.load_file(path)), 41)
        write(LONG)
        long = loader.load_file(path)
        nodes = len([line for line in long.text().splitlines() if line.startswith("%")])
        show(f"compile a flow of {nodes} ops", lambda turn: _core.compile_flow(long, **shape.bound), 21)

        def command(turn: int, fresh: bool) -> None:
            write(f"{source}# of the command, {turn if fresh else 'again'}\n")
            subprocess.run(
                [sys.executable, "-m", "vortex_attention", "check", path], check=True, stdout=subprocess.DEVNULL
            )

        command(0, False)
        show("vortex check FILE, traced before, from start to end", lambda turn: command(turn, False), 9)
        show("vortex check FILE, changed, from start to end", lambda turn: command(turn, True), 9)


if __name__ == "__main__":
    main()
