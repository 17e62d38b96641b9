"""The fused ops in a BERT of Hugging Face: sparse deltas on frozen matrices, fused epilogues.

python examples/bert_with_deltas.py [--device cuda]   (a small random model; no download)
"""

import argparse

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from lets_ext import Delta, DeltaLayout, add_layer_norm, delta_linear


# --- the part to copy: two modules and a loop over the layers ---
class DeltaLinear(nn.Module):
    """A frozen linear layer plus a trainable sparse delta: x Wᵀ + b + x Dᵀ."""

    def __init__(self, linear: nn.Linear, density: float):
        super().__init__()
        self.frozen = linear.requires_grad_(False)
        mask = torch.rand_like(linear.weight) < density  # or the largest |dW| of a training run
        self.layout = DeltaLayout.from_mask(mask)
        self.values = nn.Parameter(linear.weight.new_zeros(self.layout.nnz))

    def forward(self, x: Tensor) -> Tensor:
        rows, base = x.flatten(0, -2)[None], self.frozen(x).flatten(0, -2)[None]
        return delta_linear(base, rows, Delta(self.layout, self.values)).view(*x.shape[:-1], -1)


class FusedOutput(nn.Module):
    """BertOutput and BertSelfOutput: product, residual, bias and layer norm."""

    def __init__(self, output: nn.Module, density: float):
        super().__init__()
        self.norm, self.bias = output.LayerNorm, nn.Parameter(output.dense.bias.detach())
        output.dense.bias = None
        self.dense = DeltaLinear(output.dense, density)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        vectors = (v[None] for v in (self.norm.weight, self.norm.bias, self.bias))
        x, y = (t.flatten(0, -2)[None] for t in (self.dense(hidden), residual))
        return add_layer_norm(x, y, *vectors, eps=self.norm.eps).view_as(residual)


def add_deltas(model: BertModel, density: float) -> BertModel:
    for layer in model.requires_grad_(False).encoder.layer:
        attention = layer.attention.self
        for name in ("query", "key", "value"):
            setattr(attention, name, DeltaLinear(getattr(attention, name), density))
        layer.attention.output = FusedOutput(layer.attention.output, density)
        layer.intermediate.dense = DeltaLinear(layer.intermediate.dense, density)
        layer.output = FusedOutput(layer.output, density)
    return model


# --- and what it does ---
def main(device: str, steps: int = 20) -> tuple[float, float]:
    """Loss of a toy task before and after training the deltas alone."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertModel(config).to(device).eval()
    tokens = torch.randint(config.vocab_size, (16, 12), device=device)
    labels = tokens[:, 1] % 2
    with torch.no_grad():
        before = model(tokens).last_hidden_state
        add_deltas(model, density=0.05)
        torch.testing.assert_close(model(tokens).last_hidden_state, before, rtol=1e-4, atol=1e-4)
    head = nn.Linear(64, 2).to(device)
    trained = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(head(model(tokens).last_hidden_state[:, 0]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"{sum(p.numel() for p in trained)} parameters: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return losses[0], losses[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    main(parser.parse_args().device)
