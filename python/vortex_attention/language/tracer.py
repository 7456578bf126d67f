"""The process that traces files: a warm server that forks one child for each file. Only text comes out of a child.

A child has two seconds, 2 GiB of memory, and may not write to files (size limit 0). It is not confined otherwise: it may read files and open
sockets like any process of this user. See docs/language.md. Requests and answers are JSON, each behind its length in four bytes.
"""

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
MEMORY_LIMIT = 2 << 30
ANSWER_LIMIT = 4 << 20
MODULE = "vortex_flow_file"


def read_exactly(fd: int, count: int, deadline: float | None = None) -> bytes | None:
    """`count` bytes, or None at the end of the stream or of the time."""
    parts = []
    while count > 0:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return None
        part = os.read(fd, min(count, 1 << 16))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def send(fd: int, message: dict):
    data = json.dumps(message).encode()
    data = struct.pack("<I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, deadline: float | None = None) -> dict | None:
    head = read_exactly(fd, 4, deadline)
    if head is None:
        return None
    (size,) = struct.unpack("<I", head)
    if size > ANSWER_LIMIT:
        return None
    body = read_exactly(fd, size, deadline)
    return None if body is None else json.loads(body)


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
    if wanted is not None:
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


def trace_source(source: str, path: str, wanted: str | None, settings: dict | None = None) -> str:
    """Runs a flow file and returns the text of its program. Raises UserError with lines of the file. `settings` are those of a
    config of vortex_torch, for files written for it."""
    import linecache

    from vortex_attention import compat
    from vortex_attention.errors import UserError, VortexError
    from vortex_attention.language import place
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
    except ValueError as error:
        raise UserError(path, "a flow file is valid Python", str(error), "check the file") from None
    module = types.ModuleType(MODULE)
    module.__file__ = path
    sys.modules[MODULE] = module
    try:
        with compat.imports(module, source):
            exec(code, module.__dict__)
    except VortexError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(
            place.of_traceback(error) or path,
            "the flow file must run without errors",
            f"{type(error).__name__}: {error}"[:300],
            "correct this line",
        ) from None
    chosen = choose(module, wanted, path)
    return (compat.trace(chosen, settings or {}) if compat.is_flow(chosen) else trace(chosen)).text()


def _confine():
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_CPU, int(TIME_LIMIT) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))


def _child(request: dict, answer: int):
    from vortex_attention.errors import VortexError

    try:
        _confine()
        message = {"text": trace_source(request["source"], request["path"], request["class"], request["settings"])}
    except VortexError as error:
        message = {"error": [type(error).__name__, error.where, error.required, error.came, error.todo]}
    except MemoryError:
        message = {
            "error": [
                "UserError",
                request["path"],
                f"a flow traces within {MEMORY_LIMIT >> 30} GiB of memory",
                "more",
                "does a loop build ever more?",
            ]
        }
    except BaseException as error:  # SystemExit and the like
        message = {
            "error": [
                "UserError",
                request["path"],
                "a flow file must run to its end",
                f"{type(error).__name__}: {error}"[:300],
                "leave it out",
            ]
        }
    send(answer, message)


def _serve_one(request: dict) -> dict:
    read, write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            _child(request, write)
        finally:
            os._exit(0)
    os.close(write)
    answer = receive(read, started + TIME_LIMIT)
    late = answer is None and time.monotonic() - started >= TIME_LIMIT
    os.close(read)
    for kill in (os.killpg, os.kill):  # the group, or the child alone when it had no time to make one
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    _, status = os.waitpid(pid, 0)
    if answer is not None:
        return answer
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return {
            "error": [
                "UserError",
                request["path"],
                f"a flow traces within {TIME_LIMIT:g} s",
                "it was still running",
                "does a loop never end?",
            ]
        }
    return {
        "error": [
            "UserError",
            request["path"],
            "a flow traces without ending its process",
            f"wait status {status}",
            "leave out what ends the process",
        ]
    }


def serve():
    """Answers requests on standard input until it ends."""
    import vortex_attention.compat.modules  # noqa: F401  warm before the first fork
    import vortex_attention.language  # noqa: F401

    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    send(answers, {"ready": True})
    while (request := receive(requests)) is not None:
        send(answers, _serve_one(request))
