"""Damage for the fuzz targets of our readers: bytes changed like a disk or a stranger would, and JSON changed as JSON."""

import json
import random
import struct
import time

from vortex_attention.errors import MachineError, UserError

SLOWEST = 5.0  # seconds of the processor that reading may take
EXTREMES = [0, 1, 2, 31, 32, 33, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**60, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
TEXTS = [b"\xff", b"\x00", b'"', b"{", b"[" * 30, b"BF16", b"F32", b'"data_offsets":[0,0]', b"GGUF", b"tokenizer.ggml.tokens", b"null", b"-1",
         b"1e999"]  # fmt: skip
VALUES = [None, True, False, -1, 0.5, -0.0, 1e308, float("inf"), float("nan"), 10**400, "", "\ud800", "\x00", "a" * 300, "<|im_end|>",
          "../x.safetensors", [], {}, [[[]]], [0] * 9, {"type": "llama3"}, *EXTREMES]  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One to four changes."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        # Most of what a reader decides on stands at the front.
        at = chance.randrange(max(1, min(len(out), chance.choice([64, 1024, 8192, len(out) or 1]))))
        way = chance.randrange(6)
        if way == 0 and out:
            out[at] = chance.randrange(256)
        elif way == 1:
            struct_, size = chance.choice([("<I", 4), ("<Q", 8), ("<H", 2)])
            out[at : at + size] = struct.pack(struct_, chance.choice(EXTREMES) % (1 << 8 * size))
        elif way == 2:
            del out[at : at + chance.randint(1, 64)]
        elif way == 3:
            out[at:at] = chance.choice(TEXTS)
        elif way == 4:
            out[at:at] = out[at : at + chance.randint(1, 64)]
        else:
            del out[chance.randrange(len(out) + 1) :]
    return bytes(out)


def damaged_json(text: bytes, chance: random.Random) -> bytes:
    """One to three values, anywhere in it, replaced, left out, doubled or given another key."""
    value = json.loads(text)
    for _ in range(chance.randint(1, 3)):
        holder, key = _place(value, chance)
        if holder is None:
            continue
        way = chance.randrange(5)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif way == 2 and isinstance(holder, dict):
            holder[str(chance.choice(VALUES))] = holder.pop(key)
        else:
            holder[key] = chance.choice(VALUES)
    return json.dumps(value).encode()


def _place(value, chance: random.Random):
    """A container somewhere in the value, and a key of it; the outer ones are likelier."""
    holder, key = None, None
    while isinstance(value, list | dict) and value:
        holder, key = value, chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.3:
            break
        value = holder[key]
    return holder, key


def outcome(read) -> str:
    """ "read", or the words in which `read()` was refused. Any other exception is a defect, and so is taking long."""
    began = time.process_time()
    try:
        read()
        said = "read"
    except (UserError, MachineError) as error:
        said = str(error)
        assert error.required and said.startswith("["), said
        said.encode("utf-8", "backslashreplace")
    seconds = time.process_time() - began
    assert seconds < SLOWEST, f"{seconds:.1f} s"
    return said
