"""What the pages of the language say holds: the op reference is fresh, the flows on the pages trace."""

import subprocess
import sys
from pathlib import Path

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.language import tracer

ROOT = Path(__file__).resolve().parents[2]


def test_the_op_reference_is_fresh():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "ops_reference.py"), "--check"], capture_output=True, text=True
    )
    assert done.stdout == "docs/ops.md is fresh\n", done.stdout + done.stderr


def test_flows_on_the_pages_trace():
    pages = [ROOT / "docs" / "language.md", ROOT / "docs" / "how-to" / "add-a-flow.md"]
    for page in pages:
        blocks = [block.split("```")[0] for block in page.read_text().split("```python\n")[1:]]
        assert blocks
        for block in blocks:
            assert _core.parse_flow(tracer.trace_source(block, page.name, None)).scores


def test_the_program_on_the_page_of_the_ir_is_the_centroid_flow():
    text = (ROOT / "docs" / "ir.md").read_text().split("```\n")[1]
    program = _core.parse_flow(text)
    program.verify()
    assert program.text() == text and program.hash == vx.load_flow("centroid").hash
