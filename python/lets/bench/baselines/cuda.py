"""Dense models on a GPU without the cost of launches: captured in a CUDA graph, also on streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lets.bench.baselines.base import Baseline, Dense, Inputs, cuda_only
from lets.bench.baselines.eager import eager_forward


class CudaGraph(Baseline):
    """All passes one after the other in a single graph."""

    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        self._forwards = [eager_forward(model) for model in dense.copies(models)]

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        return cuda_only(dense)

    def prepare(self, passes: int, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # a capture wants everything to have been there once
            for forward in self._forwards[:passes]:
                forward(inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._capture(passes, inputs)

        def run() -> Sequence[Tensor]:
            graph.replay()
            return outputs

        return run

    def _capture(self, passes: int, inputs: Inputs) -> list[Tensor]:
        return [forward(inputs) for forward in self._forwards[:passes]]


class CudaStreams(CudaGraph):
    """Every pass on a stream of its own, forked and joined inside one graph."""

    apart = False

    def _capture(self, passes: int, inputs: Inputs) -> list[Tensor]:
        main, outputs = torch.cuda.current_stream(), []
        streams = [torch.cuda.Stream() for _ in range(passes)]
        for stream, forward in zip(streams, self._forwards):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                outputs.append(forward(inputs))
        for stream in streams:
            main.wait_stream(stream)
        return outputs
