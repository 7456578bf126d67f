"""What a decode step will take on a device: the parts of its price, each at the rate that the device reaches at it.

A device is a row of numbers. Those of GPUs stand here, from measured steps (docs/gpu.md); those of the CPU at hand are measured once for
a model and a batch (bench/profile.py), or estimated from the rate at which it reads memory. It predicts steps of a warm, steady decode
on one device; not prefill, not waiting in a queue.
"""

import math
from collections import namedtuple

from vortex_attention import _core
from vortex_attention.errors import UserError

BOUNDS = ("weights", "compute", "summaries", "attended KV", "launches")  # what a step may mostly wait for


class Device(
    namedtuple(
        "Device",
        (
            "name",
            "read",  # bytes a second that copying or streaming reaches, not the data sheet's figure
            "compute",  # multiplications and additions a second of the linears
            "linears_share",  # of the reading rate, what a kernel reaches
            "score_share",
            "attend_share",
            "full_layer",  # seconds a layer of full attention takes beside reading: launches, small kernels
            "scored_layer",  # the same of a layer that scores and selects
            "candidate",  # seconds to select, a candidate page of a row
            "score_operation",  # seconds, beside its bytes: an operation that is no contraction of a summary, and a row
            "score_row",
            "attend_row",
            "fixed",  # seconds a step
            "linears",  # seconds of all linears as measured for this model and batch; 0: from the rates
            "how",  # where the numbers come from
        ),
        defaults=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "measured steps of docs/gpu.md"),
    )
):
    """What a device reaches at the parts of a step."""

    __slots__ = ()


GPUS = {
    device.name: device
    for device in (
        Device("h200", 4.30e12, 4.0e14, 0.65, 0.84, 0.92, full_layer=20e-6, scored_layer=32e-6, score_row=6e-9, fixed=20e-6),
        # The H200's shares at the rate that an H100's memory reaches.
        Device("h100", 3.00e12, 4.0e14, 0.65, 0.84, 0.92, full_layer=20e-6, scored_layer=32e-6, score_row=6e-9, fixed=20e-6, how="the H200's shares, not measured"),
    )
}  # fmt: skip


def cpu_estimate(read: float, threads: int) -> Device:
    """A CPU of which only the reading rate is known. The shares are those of two cores with AVX-512 (docs/performance.md)."""
    return Device(
        "cpu",
        read,
        compute=1.4e11 * threads,
        linears_share=0.85,
        score_share=0.60,
        attend_share=0.77,
        full_layer=2e-5,
        scored_layer=4e-5,
        candidate=2.4e-9,
        score_operation=2e-10 / threads,
        how="estimated from the rate of reading memory; vortex check --measure measures this machine",
    )


def device_named(name: str) -> Device:
    if name in GPUS:
        return GPUS[name]
    known = ["cpu", *GPUS]
    near = _core.nearest_name(name, known)
    raise UserError(
        "--device", f"one of {', '.join(known)}", f'"{name[:80]}"', f'did you mean "{near}"?' if near else "choose one"
    )


class Prediction(
    namedtuple(
        "Prediction",
        (
            "linears",
            "score",
            "select",
            "attend",
            "launches",
            "compute_bound",  # whether the linears are
            "speed_of_light",  # the same step if every byte came at the reading rate and nothing else took time
            "full",
            "full_speed_of_light",
        ),
    )
):
    """Seconds of one decode step of the batch, part by part; `bound` is what most of it waits for."""

    __slots__ = ()

    @property
    def step(self) -> float:
        return self.linears + self.score + self.select + self.attend + self.launches

    @property
    def speedup(self) -> float:
        return self.full / self.step

    @property
    def bound(self) -> str:
        weights = "compute" if self.compute_bound else "weights"
        parts = {
            weights: self.linears,
            "summaries": self.score + self.select,
            "attended KV": self.attend,
            "launches": self.launches,
        }
        return max(parts, key=parts.get)

    def to_json(self) -> dict:
        parts = ("linears", "score", "select", "attend", "launches")
        return {
            "milliseconds": 1000 * self.step,
            "full_milliseconds": 1000 * self.full,
            "speedup": self.speedup,
            "bound": self.bound,
            "speed_of_light_milliseconds": 1000 * self.speed_of_light,
            "full_speed_of_light_milliseconds": 1000 * self.full_speed_of_light,
            "parts_milliseconds": {name: 1000 * getattr(self, name) for name in parts},
        }


def predict(price: _core.Price, device: Device, *, layers: int, kv_heads: int, batch: int) -> Prediction:
    """`price`: of a step of `batch` sequences. The layers that score are those whose candidates it counts."""
    rows = batch * kv_heads * layers
    scored_layers = layers * _share_of_scoring(price, rows)
    scored_rows = batch * kv_heads * scored_layers
    read_weights = price.weight_bytes / (device.linears_share * device.read)
    compute = price.weight_operations / device.compute
    linears = device.linears or max(read_weights, compute)
    score = price.score_bytes / (device.score_share * device.read) + scored_rows * device.score_row
    score += price.loose_score_operations * device.score_operation
    select = scored_rows * price.candidates * device.candidate
    attend = price.attend_bytes / (device.attend_share * device.read) + rows * device.attend_row
    full_attend = price.full_attention_bytes / (device.attend_share * device.read) + rows * device.attend_row
    launches = device.fixed + (layers - scored_layers) * device.full_layer + scored_layers * device.scored_layer
    return Prediction(
        linears=linears,
        score=score,
        select=select,
        attend=attend,
        launches=launches,
        compute_bound=compute > read_weights,
        speed_of_light=(price.weight_bytes + price.score_bytes + price.select_bytes + price.attend_bytes) / device.read,
        full=linears + full_attend + device.fixed + layers * device.full_layer,
        full_speed_of_light=(price.weight_bytes + price.full_attention_bytes) / device.read,
    )


def _share_of_scoring(price: _core.Price, rows: int) -> float:
    """Of all rows, those that choose among their candidates: select_bytes holds four bytes a candidate of each."""
    if price.candidates == 0 or rows == 0:
        return 0.0
    share = price.select_bytes / (4 * price.candidates * rows)
    return min(share, 1.0) if math.isfinite(share) else 0.0
