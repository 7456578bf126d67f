"""Command lines that are read without typer: the same values, and the rest is left to it."""

import subprocess
import sys

import pytest
import typer
from vortex_attention.cli.check import check
from vortex_attention.cli.declare import for_typer, quick

DEFAULTS = {
    "flows": ["quest"], "model": "smollm2", "context": None, "batch": 8, "device": "cpu", "measure": False, "budget": None, "settings": None,
    "kv_dtype": "bf16", "trust_flow": False, "as_json": False,
}  # fmt: skip
PLAIN = {
    "quest": {},
    "quest centroid": {"flows": ["quest", "centroid"]},
    "--model x quest --batch=3": {"model": "x", "batch": 3},
    "quest --context 10 --context=20 --json": {"context": [10, 20], "as_json": True},
    "--set sinks=2 quest --set recent=3 --budget 9": {"settings": ["sinks=2", "recent=3"], "budget": 9},
    "quest --measure --kv-dtype int8 --device h200": {"measure": True, "kv_dtype": "int8", "device": "h200"},
}
LEFT = ["", "--help", "quest -h", "quest --batch", "quest --batch x", "quest --batch 2000000000", "quest --nope", "quest --batch 1 --batch 2",
        "quest --json=1", "quest -- x", "--budget --json quest", "quest --set"]  # fmt: skip


@pytest.mark.parametrize("line", PLAIN)
def test_plain_lines_are_read(line):
    assert quick(check, line.split()) == {**DEFAULTS, **PLAIN[line]}


@pytest.mark.parametrize("line", LEFT)
def test_all_else_is_left_to_typer(line):
    assert quick(check, line.split()) is None


@pytest.mark.parametrize("line", PLAIN)
def test_typer_reads_the_same(line):
    app = typer.Typer()
    app.command()(for_typer(check))
    read = typer.main.get_command(app).make_context("check", line.split()).params
    read = {name: value if value not in ((), []) else None for name, value in read.items() if name in DEFAULTS}
    assert read == {**DEFAULTS, **PLAIN[line]}
    assert quick(check, line.split()) is not None, "the command itself keeps its declarations"


def test_a_plain_check_does_not_start_typer():
    code = (
        "import sys\nfrom vortex_attention.cli.app import main\nassert main(['check', 'quest']) == 0\n"
        "print(sorted({'typer', 'pydantic', 'numpy', 'typing', 'dataclasses', 'inspect', 'subprocess', 'hashlib', 'pathlib'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
