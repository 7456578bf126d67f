"""The selection of a flow along a generation, for a page: by step, by layer and head, and, with the page's own few lines of script, a single
head step by step. From the runs that `vortex picture --along` writes to the ledger; a layer above the arrays, below the page."""

from __future__ import annotations

import base64
import html
import json
import zlib

import numpy as np

from ..errors import UserError

from .shares import every, shares_svg

MOST = 400_000  # bytes of base64 that a page takes for one flow's single heads; above it they are left out, and that is said

# Draws one head's pages, a row a step; reads only the bits beside it.
SCRIPT = """
for (const box of document.querySelectorAll(".along")) (async () => {
  const { shape: [steps, layers, heads, pages], read, needle_page } = JSON.parse(box.querySelector("script").textContent);
  const packed = Uint8Array.from(atob(read), (c) => c.charCodeAt(0));
  const bits = new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
  const canvas = box.querySelector("canvas"), [layer, head] = box.querySelectorAll("input"), said = box.querySelector("output");
  canvas.width = pages; canvas.height = steps;
  layer.max = layers - 1; head.max = heads - 1;
  const draw = () => {
    const image = new ImageData(pages, steps);
    let count = 0;
    for (let step = 0; step < steps; step++) for (let page = 0; page < pages; page++) {
      const at = ((step * layers + Number(layer.value)) * heads + Number(head.value)) * pages + page;
      const on = (bits[at >> 3] >> (7 - (at & 7))) & 1;
      count += on;
      image.data.set(on ? (page === needle_page ? [213, 94, 0, 255] : [0, 34, 78, 255]) : [244, 244, 242, 255], 4 * (step * pages + page));
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    said.textContent = `layer ${layer.value}, KV head ${head.value}: ${(count / steps).toFixed(1)} of ${pages} pages a step`;
  };
  layer.oninput = head.oninput = draw;
  box.querySelector("fieldset").disabled = false;
  draw();
})();
"""


def bits_of(kept: dict) -> np.ndarray:
    """bool [steps, layers, KV heads, pages] of what eval.along wrote. UserError when it is something else."""
    try:
        shape = tuple(int(size) for size in kept["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        if len(shape) != 4 or min(shape) < 1 or count > 1 << 28:
            raise ValueError(f"the shape {shape}")
        data = zlib.decompressobj().decompress(base64.b64decode(kept["read"]), count // 8 + 2)
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[:count]
        return bits.reshape(shape).astype(bool)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise UserError(
            "report",
            "the pages of a generation as vortex picture --along writes them",
            str(error)[:200],
            "draw it again",
        ) from None


def figures(name: str, kept: dict, read: np.ndarray) -> list[str]:
    """Two SVGs. kept: as in the ledger; read: its bits, [steps, layers, KV heads, pages]."""
    steps, layers, heads, pages = read.shape
    size, needle = kept["page_size"], kept["needle_page"]
    by_step = read.mean(axis=(1, 2))
    by_head = read.mean(axis=0).reshape(-1, pages)
    layer_labels = {
        row * heads: f"layer {row}" for row in range(0, layers, max(1, -(-layers // max(1, int(420 / 12)))))
    }
    return [
        shares_svg(
            f"{name}: pages read along {steps} tokens of a generation",
            f"a row a step, a column a page of {size} tokens; shade: share of all heads that read it",
            by_step,
            every(steps, 24, "step"),
            needle,
        ),
        shares_svg(
            f"{name}: pages read by each layer and KV head",
            f"a row a KV head, a column a page of {size} tokens; shade: share of the {steps} steps at which it was read",
            by_head,
            layer_labels,
            needle,
        ),
    ]


def part(name: str, kept: dict, read: np.ndarray) -> str:
    """HTML of one flow's pictures."""
    pictures = "".join(f'<div class="scroll picture">{svg}</div>' for svg in figures(name, kept, read))
    share = f"<p class=note>{html.escape(name)} reads {100 * read.mean():.1f} % of the pages; the orange mark is the page with the needle.</p>"
    if len(kept["read"]) > MOST:
        return f"{pictures}{share}<p class=note>Single heads are left out: {len(kept['read'])} bytes.</p>"
    wanted = {key: kept[key] for key in ("shape", "read", "needle_page")}
    data = json.dumps(wanted).replace("<", "\\u003c")
    return (
        f"{pictures}{share}<div class=along><p>One head, step by step (downwards):</p><canvas></canvas><fieldset disabled>"
        "<label>layer <input type=range min=0 value=0></label> <label>KV head <input type=range min=0 value=0></label> <output></output>"
        f"</fieldset><script type='application/json'>{data}</script></div>"
    )
