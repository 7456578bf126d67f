"""The process that runs flow files, and the walls around it.

Two ways, tried in this order: bubblewrap (namespaces of its own: no network, no processes but its own, and of the machine's
files only the interpreter and the language), or Landlock (the same files, by the kernel's access rules). With either, a seccomp
filter leaves a file computing and nothing else. Where neither works a file is refused, unless its user trusts it.
"""

import atexit
import functools
import os
import sys
import threading
import time

from vortex_attention.errors import MachineError, UserError
from vortex_attention.language import tracer

BUBBLEWRAP, LANDLOCK, TRUSTED = "bubblewrap", "landlock", "none"
WAYS = [BUBBLEWRAP, LANDLOCK]  # in the order they are tried; TRUSTED only where its user says so

_STANDARD = os.path.dirname(os.__file__)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def _mapped() -> set[str]:
    """Folders of the libraries that this process has loaded: what the interpreter needs of the machine."""
    try:
        with open("/proc/self/maps") as maps:
            files = {line.split(None, 5)[5].strip() for line in maps if ".so" in line and "/" in line}
    except OSError:
        return set()
    return {os.path.dirname(file) for file in files if not file.endswith("(deleted)")}


@functools.cache
def _numpy() -> list[str]:
    """NumPy, which a flow may compute its constants with: its folder and the one of its libraries."""
    import importlib.util

    spec = importlib.util.find_spec("numpy")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = spec.submodule_search_locations[0]
    return [folder, *(path for path in [folder + ".libs"] if os.path.isdir(path))]


def readable() -> list[str]:
    """What may be read: the interpreter, its standard library, the language, NumPy."""
    interpreter = os.path.realpath(sys._base_executable or sys.executable)
    return sorted(
        {
            interpreter,
            os.path.realpath(_STANDARD),
            _STANDARD,
            *_mapped() - {_PACKAGE},
            _PACKAGE,
            *_numpy(),
            "/etc/ld.so.cache",
        }
    )


def _interpreter() -> list[str]:
    """The command of a Python that finds the language and NumPy and looks nowhere else."""
    paths = [
        _STANDARD,
        os.path.join(_STANDARD, "lib-dynload"),
        os.path.dirname(_PACKAGE),
        *map(os.path.dirname, _numpy()[:1]),
    ]
    return [os.path.realpath(sys._base_executable or sys.executable), "-I", "-S", "-B", "-c",
            f"import sys; sys.path[:] = {paths!r}; from vortex_attention.language.tracer import serve; serve(sys.argv[1], sys.argv[2:])"]  # fmt: skip


def _bubblewrap() -> list[str]:
    import shutil

    program = shutil.which("bwrap")
    if program is None:
        raise OSError("bwrap is not installed")
    command = [program, "--unshare-all", "--new-session", "--cap-drop", "ALL", "--chdir", "/"]
    for top in ("/lib", "/lib32", "/lib64", "/bin"):
        if os.path.islink(top):
            command += ["--symlink", os.readlink(top), top]
            if top not in ("/lib", "/bin"):  # the loader of programs lies there
                command += ["--ro-bind-try", os.path.realpath(top), os.path.realpath(top)]
        elif top.startswith("/lib") and os.path.isdir(top):
            command += ["--ro-bind", top, top]
    for path in readable():
        command += ["--ro-bind-try", path, path]
    return [*command, "--dev-bind", "/dev/null", "/dev/null", "--"]


class Server:
    """The warm process behind one way, started when first needed, anew when it died or this process was forked."""

    def __init__(self, way: str):
        self.way = way
        self.lock = threading.Lock()
        self.process = None
        self.owner = None

    def start(self):
        """OSError with the reason when this way does not work here."""
        import subprocess

        wrapped = _bubblewrap() if self.way == BUBBLEWRAP else []
        self.process = subprocess.Popen(
            [*wrapped, *_interpreter(), self.way, *(readable() if self.way == LANDLOCK else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            # One thread in NumPy's libraries: they could not start others.
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches this process, which ends the server by closing its input
        )
        self.owner = os.getpid()
        ready = tracer.receive(self.process.stdout.fileno(), time.monotonic() + 30)
        if not isinstance(ready, dict) or ready.get("ready") is not True:
            why = ready.get("why") if isinstance(ready, dict) else None
            if why is None:  # it ended, and said so before
                self.process.stdin.close()
                self._end(1)
                os.set_blocking(self.process.stderr.fileno(), False)
                said = (self.process.stderr.read() or b"").decode(errors="replace").strip().splitlines()
                why = said[-1] if said else "its process did not start"
            self.stop()
            raise OSError(str(why)[:300])

    def _end(self, seconds: float):
        from subprocess import TimeoutExpired

        try:
            self.process.wait(seconds)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def stop(self):
        if self.process is not None and self.owner == os.getpid():
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                stream.close()  # the end of its input ends the server, whatever it is doing
            self._end(0.5)
        self.process = None

    def running(self) -> bool:
        return self.process is not None and self.owner == os.getpid() and self.process.poll() is None

    def ask(self, request: dict) -> dict:
        with self.lock:
            if not self.running():
                self.process = None
                self.start()
            try:
                tracer.send(self.process.stdin.fileno(), request)
                limit = tracer.TIME_LIMIT + (tracer.PREPARE_LIMIT if tracer.wants_numpy(request) else 0.0) + 0.4
                answer = tracer.receive(self.process.stdout.fileno(), time.monotonic() + limit)
            except OSError:  # the server died
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


_servers: dict[str, Server] = {}
_failed: dict[str, str] = {}  # way → why it does not work here
_choice = threading.Lock()


def stop():
    for server in _servers.values():
        server.stop()


atexit.register(stop)


def server_for(path: str, trust: bool) -> Server:
    """The server of the first way that works here; with `trust`, one without walls."""
    with _choice:
        for way in [TRUSTED] if trust else WAYS:
            if way in _failed:
                continue
            server = _servers.setdefault(way, Server(way))
            with server.lock:
                if server.running():
                    return server
                try:
                    server.start()
                    return server
                except OSError as error:
                    _failed[way] = str(error)
    reasons = "; ".join(f"{way}: {_failed[way]}" for way in WAYS if way in _failed)
    raise MachineError(
        path,
        "a sandbox to run a flow file in, bubblewrap or Landlock, and seccomp with either",
        reasons,
        "install bubblewrap, or pass --trust-flow (trust_flow=True) for a file that you trust as your own",
    )
