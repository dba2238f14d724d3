"""Runs on a GPU whose outputs stay there until all are computed, and are fetched together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort

from service.providers import CPU
from service.tensors import Array

Feeds = Mapping[str, Array | ort.OrtValue]


class Runner(Protocol):
    """What runs a model: a session, or what stands before it."""

    def run(
        self, output_names: Sequence[str], input_feed: Feeds, run_options: ort.RunOptions | None = None
    ) -> Sequence[Array]:
        """Return the named outputs, in this order."""
        ...


class BoundSession:
    """Runs a session with its inputs and outputs bound to memory, as `InferenceSession.run` would.

    https://onnxruntime.ai/docs/api/python/api_summary.html#iobinding

    Args:
        session: What runs.
        device: The memory that its outputs are computed in, as ONNX Runtime names it.
    """

    def __init__(self, session: ort.InferenceSession, device: str = "cuda") -> None:
        self._session = session
        self._device = device
        # Texts live in Python's memory and the CPU's; they can't be bound.
        self._unbindable = frozenset(o.name for o in session.get_outputs() if o.type == "tensor(string)")

    def run(
        self, output_names: Sequence[str], input_feed: Feeds, run_options: ort.RunOptions | None = None
    ) -> Sequence[Array]:
        """Return the named outputs, in this order; one of device.RUNTIME_ERRORS if the run fails."""
        if not self._unbindable.isdisjoint(output_names) or any(map(_is_text, input_feed.values())):
            arrays: Sequence[Array] = self._session.run(output_names, input_feed, run_options)
            return arrays
        binding = self._session.io_binding()
        for name, value in input_feed.items():
            if isinstance(value, ort.OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, np.asarray(value, order="C"))
        for name in output_names:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding, run_options)
        outputs: Sequence[Array] = binding.copy_outputs_to_cpu()
        return outputs


def runner_of(session: ort.InferenceSession) -> Runner:
    """Choose how a session is run: on the CPU as it is, which costs less for every run."""
    runner: Runner = session if session.get_providers()[0] == CPU else BoundSession(session)
    return runner


def _is_text(value: Array | ort.OrtValue) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "OSU"
