"""CUDA graphs: a program captured once per (batch, length) bucket and replayed.

Not measured: written for a device, and run on none so far.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from lets.run.kernels import Call
from lets.run.program import Program
from lets.tokens import TokenBatch

_LENGTHS = 16  # lengths are padded to a multiple


def bucket(tokens: TokenBatch, max_length: int) -> tuple[int, int]:
    """Batch and length that inputs are padded to: a power of two, and a multiple of 16."""
    batch, length = tokens.input_ids.shape
    return 1 << (batch - 1).bit_length(), min(-(-length // _LENGTHS) * _LENGTHS, max_length)


class CapturedProgram:
    """One graph with its static inputs; callers take turns."""

    def __init__(self, program: Program, batch: int, length: int) -> None:
        self.program, self._turn = program, threading.Lock()
        device = program.encoder.device
        ids = torch.zeros(batch, length, dtype=torch.int64, device=device)
        mask = torch.zeros_like(ids)
        mask[:, 0] = 1  # a sequence without any token would attend to nothing
        self.tokens = TokenBatch(ids, mask, torch.zeros_like(ids))
        self.key_mask = mask.bool()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries allocate their workspaces in the first run
            program.values(self._call())
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = program.logits(program.values(self._call()))

    def _call(self) -> Call:
        return Call(self.tokens, self.key_mask)

    def run(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Logits of every task; the inputs may be smaller than the bucket. [B, C]"""
        self.program.encoder.check_batch(tokens)
        batch, length = tokens.input_ids.shape
        with self._turn:
            for name in ("input_ids", "attention_mask", "token_type_ids"):
                static = getattr(self.tokens, name)
                static.zero_()
                static[:batch, :length] = getattr(tokens, name)
            self.tokens.attention_mask[batch:, 0] = 1
            self.key_mask.copy_(self.tokens.attention_mask)
            self.graph.replay()
            return {name: logits[:batch].clone() for name, logits in self.logits.items()}
