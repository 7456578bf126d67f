"""What comes from outside the programs: pipes, names that are no text, a full disk, damaged weights."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import vortex_attention as vx
from vortex_attention.cli import show
from vortex_attention.measure.finite import require_finite
from vortex_attention.models import open_source


def test_pipes_are_refused_and_not_waited_for(tmp_path):
    for name in ("flow.py", "model.gguf"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(vx.UserError, match="a flow file; a pipe; write the flow to a file"):
        vx.load_flow(tmp_path / "flow.py")
    with pytest.raises(vx.UserError, match="a model file; .* is a pipe; write it to a file"):
        open_source(tmp_path / "model.gguf")


def test_names_that_are_not_text():
    with pytest.raises(vx.UserError, match="check the name"):
        vx.load_flow(os.fsdecode(b"\xff\xfe"))


def test_logits_that_are_no_numbers_have_an_owner():
    require_finite(np.zeros(3), "eval", full=True)
    with pytest.raises(
        vx.UserError,
        match=r"\[eval\] finite logits from full attention; some are not; the model's weights may be damaged",
    ):
        require_finite(np.array([0.0, np.nan]), "eval", full=True)
    with pytest.raises(vx.InternalError, match="report this as a defect"):
        require_finite(np.array([np.inf]), "bench", full=False)


def test_json_has_no_infinity(capsys):
    show.print_result({"low": -np.inf, "rows": [{"high": float("nan"), "center": 1.5}]}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"low": None, "rows": [{"high": None, "center": 1.5}]}


def _command(*arguments, **streams):
    return subprocess.run(
        [sys.executable, "-m", "vortex_attention", *arguments], stderr=subprocess.PIPE, text=True, **streams
    )


def test_a_full_disk_behind_standard_output():
    with open("/dev/full", "w") as full:
        done = _command("check", "quest", stdout=full)
    assert done.returncode == 3
    assert "[output] room to write to; No space left on device; free space, or write elsewhere" in done.stderr


def test_a_closed_standard_output():
    done = subprocess.run(
        f"{sys.executable} -m vortex_attention check quest >&-", shell=True, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, "defect" in done.stderr) == (0, False)
