"""ONNX Runtime as it is used here: one session for all threads, a thread for each batch.

- A session computes each batch with one thread, and several batches run side by side in threads of ours. They share the
  weights, and nobody waits for the slower half of a matrix: two such threads reached more of what two cores can do than
  one batch shared by both.
- Graph optimisations are off for the graphs written here, which are in their final form; that makes loading fast. A
  ready model gets them all.
- Memory patterns are off: each shape would get one, and hardly two batches have the same shape. The arena is on:
  without it each batch asks the system for its memory anew, which made peaks a quarter higher and nothing faster.
- Since version 1.29 the runtime writes an identifier of the machine to the user's cache and a session file to the
  temporary folder, and sends events to its maker, unless ``ORT_DISABLE_TELEMETRY`` is set when it is imported. It is.
- Weights are handed over as mapped arrays. The runtime copies those that it reorders; the pages are given back then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.onnx_format import Graph
from omnimemory.errors import EmbedderError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from omnimemory.embedders.batches import Batch

__all__ = ["available_cores", "make_session", "run_batches", "signed_products_are_exact"]

_DONE = object()


def make_session(
    model: bytes | Path, arrays: Mapping[str, NDArray[np.generic]] | None = None, *, optimise: bool = False
) -> InferenceSession:
    """Return a session of a model, which the arrays must outlive. Raises :class:`EmbedderError`."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when the runtime is imported
    import onnxruntime  # noqa: PLC0415 - heavy, and only this embedder needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (arrays or {}).values()]
    if values:
        options.add_external_initializers(list(arrays or {}), values)
    try:
        source = str(model) if isinstance(model, Path) else model
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The runtime has a dozen kinds of exceptions and no common one.
        name = model if isinstance(model, Path) else "The model"
        raise EmbedderError(f"{name} cannot be loaded by ONNX Runtime: {error}") from error


def run_batches(
    compute: Callable[[Batch], NDArray[np.float32]], batches: Sequence[Batch], rows: int, dim: int, workers: int
) -> NDArray[np.float32]:
    """Compute all batches, so many at a time, and return their (rows, dim) results in the order of the rows.

    The first error of any thread ends them all and is raised here.
    """
    found = np.empty((rows, dim), dtype=np.float32)
    waiting, lock, errors = iter(batches), threading.Lock(), list[BaseException]()

    def work() -> None:
        while True:
            with lock:
                batch: Any = _DONE if errors else next(waiting, _DONE)
            if batch is _DONE:
                return
            try:
                found[batch.rows] = compute(batch)
            except BaseException as error:  # noqa: BLE001 - it is raised where the caller is
                errors.append(error)

    others = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(batches)) - 1)]
    try:
        for thread in others:
            thread.start()
        work()
    except BaseException as error:  # noqa: BLE001 - an interrupt, which arrives in this thread only; it is raised below
        errors.append(error)
    for thread in others:
        if thread.ident is not None:
            thread.join()
    if errors:
        raise errors[0]
    return found


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, and the quota of its container where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        cores = min(cores, -(-int(quota) // int(period)))
    return max(1, cores)


@cache
def signed_products_are_exact() -> bool:
    """Return whether products of unsigned rows and signed weights are exact here, by trying the largest there are."""
    graph, size = Graph(), 64
    weight = np.full((size, size), 127, dtype=np.int8)
    inputs = ["x", graph.array("weight", weight), graph.constant("zero", np.array(0, dtype=np.uint8))]
    graph.node("MatMulInteger", inputs, "y")
    graph.node("Cast", ["y"], "product", to=1)
    model = graph.model({"x": ("uint8", ("n", size))}, {"product": ("n", size)})
    rows = np.full((size, size), 255, dtype=np.uint8)
    product = make_session(model, graph.arrays).run(None, {"x": rows})[0]
    return bool((product == 255 * 127 * size).all())
