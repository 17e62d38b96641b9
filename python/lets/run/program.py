"""Program: a plan bound to an encoder and to the tasks' weights, ready to run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lets.encoder import Encoder
from lets.plan.memory import last_uses
from lets.plan.step import Plan
from lets.run.kernels import Call, bind
from lets.run.stacks import Stacks
from lets.tokens import TokenBatch


class Program:
    """Runs a plan's steps in their order; a value is released after its last reader."""

    def __init__(self, plan: Plan, encoder: Encoder, stacks: Stacks) -> None:
        self.plan, self.encoder = plan, encoder
        number = plan.producers()
        self.kernels = [bind(step, encoder, stacks) for step in plan.steps]
        self.inputs = [tuple(number[name] for name in step.inputs) for step in plan.steps]
        self.released = [tuple(number[name] for name in names) for names in last_uses(plan)]
        self._answers = [
            (task, number[answer.buffer], answer.row, answer.num_labels)
            for task, answer in plan.answers.items()
        ]

    def run(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Logits of every task. [B, C]"""
        self.encoder.check_batch(tokens)
        return self.logits(self.values(Call(tokens, tokens.key_mask)))

    def values(self, call: Call) -> list[Tensor | None]:
        """The steps' values of a checked batch; released ones are None."""
        values: list[Tensor | None] = []
        for kernel, inputs, released in zip(self.kernels, self.inputs, self.released):
            values.append(kernel(call, *[values[i] for i in inputs]))
            for i in released:
                values[i] = None
        return values

    def logits(self, values: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Each task's rows of the values that answer."""
        out = {}
        for task, number, row, labels in self._answers:
            logits = values[number]
            assert logits is not None
            out[task] = logits[row, :, :labels]
        return out
