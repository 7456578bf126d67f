"""Loading flow files. A file is traced by another process, and only its IR comes back. Ready flows and names: see flows."""

import atexit
import os
import stat
import subprocess
import sys
import threading
import time

from vortex_attention import _core
from vortex_attention.compat import config
from vortex_attention.errors import InternalError, UserError
from vortex_attention.language import tracer

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_SOURCE_LIMIT = 256 << 10


class _Server:
    """The warm tracer process, started when first needed, started anew when it died or this process was forked."""

    def __init__(self):
        self.lock = threading.Lock()
        self.process = None
        self.owner = None

    def _start(self):
        command = (
            f"import sys; sys.path.insert(0, {_ROOT!r}); from vortex_attention.language.tracer import serve; serve()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ},
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches this process, which ends the server by closing its input
        )
        self.owner = os.getpid()
        if tracer.receive(self.process.stdout.fileno(), time.monotonic() + 30) is None:
            self.stop()
            raise InternalError(
                "language/loader.py",
                "the tracer process starts within 30 s",
                "no sign of it",
                "run python -c 'import vortex_attention.language' to see why",
            )

    def stop(self):
        if self.process is not None and self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = None

    def ask(self, request: dict) -> dict:
        with self.lock:
            if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
                self.process = None
                self._start()
            try:
                tracer.send(self.process.stdin.fileno(), request)
                answer = tracer.receive(self.process.stdout.fileno(), time.monotonic() + tracer.TIME_LIMIT + 0.4)
            except (OSError, ValueError):  # the server died, or what it said is no answer
                answer = None
            except BaseException:  # Ctrl-C: an answer that nobody reads must not meet the next question
                self.stop()
                raise
            if answer is None:
                self.stop()
                raise UserError(
                    request["path"],
                    "a flow traces in its process",
                    "the process ended or hung",
                    "leave out what disturbs it",
                )
            return answer


_server = _Server()
atexit.register(_server.stop)


def warm():
    """Starts the tracer process now, so that the first file is as quick as the next."""
    with _server.lock:
        if _server.process is None:
            _server._start()


def _read(path: str) -> str:
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # opening one waits for its writer
            raise UserError(path, "a flow file", "a pipe", "write the flow to a file")
        with open(path, "rb") as file:
            data = file.read(_SOURCE_LIMIT + 1)
    except IsADirectoryError:
        raise UserError(path, "a flow file", "a folder", "name the file in it") from None
    except OSError as error:
        raise UserError(path, "a flow file that can be read", error.strerror or str(error), "check the path") from None
    if len(data) > _SOURCE_LIMIT:
        raise UserError(path, f"a flow file has at most {_SOURCE_LIMIT >> 10} KiB", "more", "is this the right file?")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UserError(path, "a flow file is UTF-8 text", "other bytes", "is this the right file?") from None


def _checked_answer(answer, path: str) -> str:
    """What came from code that is not trusted: the text of a program, or the words of an error."""
    if isinstance(answer, dict) and isinstance(answer.get("text"), str):
        return answer["text"]
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, list) and len(error) == 5 and all(isinstance(part, str) for part in error):
        raise UserError(*(part[:1000] for part in error[1:]))
    raise UserError(path, "the tracer answers with a program", "something else", "leave out what disturbs it")


def load_file(path: str | os.PathLike, name: str | None = None, page_size: int | None = None) -> _core.Program:
    """The verified program of a flow file: Python, the IR as text or JSON, or a JSON config of vortex_torch. `name` chooses among
    several flows; `page_size` takes the place of a config's."""
    path, settings = os.fspath(path), {}
    source = _read(path)
    if config.is_config(source):
        asked = config.read(source, path)
        path, name, settings = asked.module_path, asked.module_name, asked.settings
        source = _read(path)
    if page_size is not None:
        settings = settings | {"block_size": page_size}
    if source.startswith("vortex_ir"):
        program = _core.parse_flow(source)
    elif source.lstrip().startswith("{"):
        program = _core.parse_flow_json(source)
    else:
        answer = _server.ask({"source": source, "path": path, "class": name, "settings": settings})
        program = _core.parse_flow(_checked_answer(answer, path))
    program.verify()
    return program


def source_of(path: str | os.PathLike) -> str:
    """The text that says what a flow file does: its own, or that of the file which a config names."""
    path = os.fspath(path)
    source = _read(path)
    return _read(config.read(source, path).module_path) if config.is_config(source) else source
