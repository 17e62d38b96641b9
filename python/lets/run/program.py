"""Program: a plan bound to an encoder and to the tasks' weights, ready to run."""

from __future__ import annotations

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
        self.plan = plan
        number = {step.output: i for i, step in enumerate(plan.steps)}
        released = last_uses(plan)
        self._code = [
            (
                bind(step, encoder, stacks),
                tuple(number[name] for name in step.inputs),
                tuple(number[name] for name in released[i]),
            )
            for i, step in enumerate(plan.steps)
        ]
        self._answers = [
            (task, number[answer.buffer], answer.row, answer.num_labels)
            for task, answer in plan.answers.items()
        ]

    def run(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Logits of every task. [B, C]"""
        call = Call(tokens, tokens.key_mask)
        values: list[Tensor | None] = []
        for kernel, inputs, released in self._code:
            values.append(kernel(call, *[values[i] for i in inputs]))
            for i in released:
                values[i] = None
        return self._logits(values)

    def _logits(self, values: list[Tensor | None]) -> dict[str, Tensor]:
        out = {}
        for task, number, row, labels in self._answers:
            logits = values[number]
            assert logits is not None
            out[task] = logits[row, :, :labels]
        return out
