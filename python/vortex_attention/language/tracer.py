"""The process that traces files: a warm server that forks one child for each file. Only text comes out of a child.

A child has two seconds and 512 MiB, and, but for files that their user trusts, nothing but the processor: it reads the interpreter and
the language, writes nothing but its answer and the place where it stands, and starts no process or thread (src/sandbox/confine.h). What it
answers with carries a seal and is read as hostile all the same. Requests and answers are JSON, each behind its length in four bytes.
"""

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import struct
import sys
import time
import types

TIME_LIMIT = 2.0  # seconds a file may take to trace
PREPARE_LIMIT = 15.0  # seconds to import NumPy for it, on a machine that is busy
MEMORY_LIMIT = 512 << 20
ANSWER_LIMIT = 4 << 20
PLACE_SIGNAL = signal.SIGUSR1  # asks a child where it stands
MODULE = "vortex_flow_file"
# Standard modules with parts in machine code, which cannot be loaded once the walls are up.
_PRELOADED = ("array", "bisect", "cmath", "collections", "copy", "dataclasses", "enum", "functools", "heapq", "inspect", "itertools",
              "json", "math", "numbers", "operator", "random", "re", "string", "textwrap", "typing")  # fmt: skip


def read_exactly(fd: int, count: int, deadline: float | None = None, watched: int | None = None) -> bytes | None:
    """`count` bytes, or None at the end of the stream, of the time, or of what is watched."""
    parts = []
    while count > 0:
        if deadline is not None:
            left = deadline - time.monotonic()
            ready = select.select([fd] if watched is None else [fd, watched], [], [], max(left, 0))[0]
            if fd not in ready:
                return None
        part = os.read(fd, min(count, 1 << 16))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def send(fd: int, message: dict | bytes):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    data = struct.pack("<I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def receive_bytes(fd: int, deadline: float | None = None, watched: int | None = None) -> bytes | None:
    head = read_exactly(fd, 4, deadline, watched)
    if head is None:
        return None
    (size,) = struct.unpack("<I", head)
    return read_exactly(fd, size, deadline, watched) if size <= ANSWER_LIMIT else None


def receive(fd: int, deadline: float | None = None) -> dict | None:
    """A message; None where there is none, or no message of ours."""
    body = receive_bytes(fd, deadline)
    try:
        return None if body is None else json.loads(body)
    except (ValueError, RecursionError):
        return None


def choose(module: types.ModuleType, wanted: str | None, path: str):
    """The flow class of a file: the one named, or the only one that no other of the file derives from."""
    from vortex_attention import _core
    from vortex_attention.compat.modules import defined
    from vortex_attention.errors import UserError
    from vortex_attention.language.flow import vFlow

    classes = {
        c.__name__: c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, vFlow) and c.__module__ == module.__name__
    } | defined(module)
    if wanted:
        if wanted in classes:
            return classes[wanted]
        near = _core.nearest_name(wanted, list(classes))
        raise UserError(
            path,
            f"a flow called {wanted}",
            f"the file defines {', '.join(classes) or 'none'}",
            f"did you mean {path}:{near}?" if near else "check the name",
        )
    if not classes:
        raise UserError(
            path, "a flow file defines a class derived from vx.vFlow", "none", "write class MyFlow(vx.vFlow): ..."
        )
    leaves = {
        c: name
        for name, c in classes.items()
        if not any(other is not c and issubclass(other, c) for other in classes.values())
    }
    if len(leaves) > 1:
        names = list(leaves.values())
        raise UserError(path, "a file of several flows needs a name", ", ".join(names), f"write {path}:{names[0]}")
    return next(iter(leaves))


def trace_source(
    source: str,
    path: str,
    wanted: str | None,
    settings: dict | None = None,
    beside: dict[str, str] | None = None,
    weights: dict[str, dict] | None = None,
) -> str:
    """Runs a flow file and returns the text of its program. Raises UserError with lines of the file. `settings` are those of a
    config of vortex_torch, for files written for it. `beside`: the text of modules that the file may import, by name. `weights`: file → tensor → shape of the safetensors files that
    a flow of vortex_torch names."""
    import linecache

    from vortex_attention import compat
    from vortex_attention.errors import UserError, VortexError
    from vortex_attention.language import guard, mistakes, place
    from vortex_attention.language.beside import Finder
    from vortex_attention.language.flow import trace

    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    try:
        code = compile(source, path, "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()[:80]
        raise UserError(
            f"{path}:{error.lineno}",
            "a flow file is valid Python",
            f"{error.msg}: {line}" if line else error.msg,
            "correct this line",
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(path, "a flow file is valid Python", str(error), "check the file") from None
    if weights:
        from vortex_attention.compat.weights import files

        files.update(weights)
    module = types.ModuleType(MODULE)
    module.__file__ = path
    sys.modules[MODULE] = module
    finder = Finder(path, beside or {})
    sys.meta_path.insert(0, finder)
    language = guard.Snapshot()
    try:
        with compat.imports(module, source):
            exec(code, module.__dict__)
            language.check(path)
            chosen = choose(module, wanted, path)
            program = compat.trace(chosen, settings or {}) if compat.is_flow(chosen) else trace(chosen)
        language.check(path)
        return program.text()
    except (VortexError, MemoryError):
        raise
    except Exception as error:
        raise mistakes.explained(
            error, place.of_traceback(error) or path, "the flow file must run without errors"
        ) from None
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        for name in beside or {}:
            sys.modules.pop(name, None)


def _confine(answer: int, places: int, way: str, readable: list[str]):
    """The walls; whoever is behind them keeps the descriptors `answer` and `places`, and a standard input, output and error that lead
    nowhere. To `places` goes the stack when the process crashes or is asked."""
    from vortex_attention import _core
    from vortex_attention.language import guard

    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = sorted((answer, places))
    for begin, end in zip([3, *(fd + 1 for fd in kept)], [*kept, min(most, 4096)]):
        os.closerange(begin, end)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_CPU, int(TIME_LIMIT) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))
    faulthandler.enable(places, all_threads=False)
    faulthandler.register(PLACE_SIGNAL, places, all_threads=False)
    if way == "landlock":
        _core.restrict_files(readable)
    if way != "none":
        _core.restrict_calls([answer, places])
        guard.name_what_reaches_out()


def _traced(request: dict) -> dict:
    from vortex_attention.errors import VortexError
    from vortex_attention.language import place
    from vortex_attention.language.guard import Printed
    from vortex_attention.language.mistakes import spoken

    path = request["path"]
    sys.stdout = sys.stderr = printed = Printed()
    try:
        text = trace_source(
            request["source"], path, request["class"], request["settings"], request["beside"], request["weights"]
        )
        return {"text": text, "printed": printed.text()}
    except VortexError as error:
        parts = [type(error).__name__, error.where, error.required, error.came, error.todo]
    except MemoryError as error:
        where, required = place.of_traceback(error) or path, f"a flow traces within {MEMORY_LIMIT >> 20} MiB of memory"
        parts = ["UserError", where, required, "more", "does a loop build ever more?"]
    except BaseException as error:  # SystemExit and the like
        where = place.of_traceback(error) or path
        parts = ["UserError", where, "a flow file must run to its end", spoken(error), "leave it out"]
    return {"error": parts, "printed": printed.text()}


def wants_numpy(request: dict) -> bool:
    return "numpy" in request["source"] or any("numpy" in text for text in request["beside"].values())


def _child(request: dict, prepared: int, answer: int, places: int, way: str, readable: list[str]):
    from vortex_attention import _core

    if wants_numpy(request):
        try:
            import numpy  # noqa: F401  its machine code cannot be loaded behind the walls
        except ImportError:
            pass
    os.close(prepared)  # nothing of the file has run: its time begins
    try:
        _confine(answer, places, way, readable)
    except Exception as error:
        why = str(error)
        _core.answer_sealed(answer, lambda: json.dumps({"why": why}))
        return
    if request.get("probe"):
        _core.answer_sealed(answer, lambda: '{"ready": true}')
        return
    _core.answer_sealed(answer, lambda: json.dumps(_traced(request)))


def _place_of(request: dict, places: int, seconds: float) -> str:
    """ "quest.py:7", where the child says that it stands, within so many seconds; the file alone where it says nothing of the kind. The
    file's own code can write there too: what it can forge is the number of a line."""
    from vortex_attention.language import place

    if not select.select([places], [], [], seconds)[0]:
        return request["path"]
    folder = os.path.dirname(request["path"])
    files = [request["path"], *(os.path.join(folder, name + ".py") for name in request["beside"])]
    return place.of_stack(os.read(places, 1 << 16).decode(errors="replace"), files) or request["path"]


_ending = []  # children that were killed and whose memory the kernel is still taking back


def _ended(pid: int, seconds: float | None) -> int:
    """How a child ended. One that was killed late and takes longer than so many seconds to be gone is not waited for here: 0."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, 0 if until is None else os.WNOHANG)
        if done:
            return status
        if time.monotonic() > until:
            _ending.append(pid)
            return 0
        time.sleep(0.005)


def _serve_one(request: dict, requests: int, way: str, readable: list[str]) -> dict | bytes:
    from vortex_attention import _core

    read, write = os.pipe()
    places, stands = os.pipe()
    begins, prepared = os.pipe()
    _core.new_seal()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (read, begins, places):
                os.close(fd)
            _child(request, prepared, write, stands, way, readable)
        finally:
            os._exit(0)
    for fd in (write, prepared, stands):
        os.close(fd)
    read_exactly(begins, 1, time.monotonic() + PREPARE_LIMIT, requests)
    os.close(begins)
    started = time.monotonic()
    answer = receive_bytes(read, started + TIME_LIMIT, requests)
    late = answer is None and time.monotonic() - started >= TIME_LIMIT
    os.close(read)
    where = request["path"]
    if answer is None:
        if late:
            os.kill(pid, PLACE_SIGNAL)
        where = _place_of(request, places, 0.25)
    os.close(places)
    for kill in (os.killpg, os.kill):  # the group, or the child alone when it had no time to make one
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    status = _ended(pid, 0.05 if late else None)
    if answer is not None:
        opened = _core.open_sealed(answer)
        if opened is not None:
            return opened
        came, required = "other bytes where its answer belongs", "a flow file is answered for by the tracer"
        todo = "leave out what writes to descriptors"
    elif late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        required, came, todo = (
            f"a flow traces within {TIME_LIMIT:g} s",
            "it was still running",
            "does a loop never end?",
        )
    else:
        required, todo = "a flow traces without ending its process", "leave out what ends the process"
        came = f"exit status {os.WEXITSTATUS(status)}"
        if os.WIFSIGNALED(status):
            came = f"it ended by signal {signal.Signals(os.WTERMSIG(status)).name}"
            if os.WTERMSIG(status) == signal.SIGSEGV:
                todo = "does something nest or recurse without end?"
    return {"error": ["UserError", where, required, came, todo]}


def serve(way: str, readable: list[str]):
    """Answers requests on standard input until it ends. `way` says which walls stand around a child: see sandbox.py."""
    import importlib

    import vortex_attention.compat.modules  # noqa: F401  warm before the first fork
    import vortex_attention.language
    import vortex_attention.language.beside
    import vortex_attention.language.guard
    import vortex_attention.language.mistakes  # noqa: F401

    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # a child shares these pages instead of copying them
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    send(
        answers,
        _serve_one({"probe": True, "path": "", "source": "", "beside": {}, "weights": {}}, requests, way, readable),
    )
    while (request := receive(requests)) is not None:
        send(answers, _serve_one(request, requests, way, readable))
        while _ending:
            os.waitpid(_ending.pop(), 0)
