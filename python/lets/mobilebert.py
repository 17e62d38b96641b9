"""MobileBERT's size and cost, exactly: bottlenecks around every layer, several small feed-forwards.

No encoder of LeTS: it stands in tables as a compressed encoder (Sun et al., 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from lets.cost import op_cost


@dataclass(frozen=True)
class MobileBertShape:
    """Sizes of a MobileBERT.

    Args:
        hidden_size: Between layers.
        bottleneck: Inside a layer.
        feed_forwards: In a layer, one behind the other.
        shared_bottleneck: Whether queries and keys read a bottleneck of their own, and values the
            layer's whole input; otherwise all three read the layer's bottleneck (MobileBERT-tiny).
    """

    name: str
    num_layers: int = 24
    hidden_size: int = 512
    bottleneck: int = 128
    intermediate_size: int = 512
    feed_forwards: int = 4
    shared_bottleneck: bool = True
    embedding_size: int = 128
    vocab_size: int = 30522
    max_positions: int = 512
    token_types: int = 2

    @property
    def num_parameters(self) -> int:
        """All of them, the embeddings included, the pooler not."""
        rows = self.max_positions + self.token_types
        embeddings = self.vocab_size * self.embedding_size + rows * self.hidden_size
        embeddings += _linear(*self._trigrams) + 2 * self.hidden_size
        return embeddings + self.num_layers * sum(
            _linear(*sizes) + (2 * sizes[1] if normed else 0) for sizes, normed in self._matrices()
        )

    def flops(self, seq_len: int) -> int:
        """One text of so many tokens, the trigram product of the embeddings included."""
        products = [self._trigrams, *([sizes for sizes, _ in self._matrices()] * self.num_layers)]
        total = sum(
            op_cost("linear", tokens=seq_len, in_features=i, out_features=o).flops
            for i, o in products
        )
        attention = op_cost("attention", batch=1, seq_len=seq_len, hidden=self.bottleneck).flops
        return total + self.num_layers * attention

    @property
    def _trigrams(self) -> tuple[int, int]:
        return 3 * self.embedding_size, self.hidden_size

    def _matrices(self) -> list[tuple[tuple[int, int], bool]]:
        """(in_features, out_features) of a layer's matrices, and whether a norm follows."""
        wide, narrow, inner = self.hidden_size, self.bottleneck, self.intermediate_size
        values = wide if self.shared_bottleneck else narrow
        enter = [((wide, narrow), True)] * (2 if self.shared_bottleneck else 1)
        attention = [
            ((narrow, narrow), False), ((narrow, narrow), False), ((values, narrow), False),
            ((narrow, narrow), True),
        ]  # fmt: skip
        feed_forward = [((narrow, inner), False), ((inner, narrow), True)] * self.feed_forwards
        return [*enter, *attention, *feed_forward, ((narrow, wide), True)]


def _linear(in_features: int, out_features: int) -> int:
    return in_features * out_features + out_features


MOBILEBERTS = {
    "mobilebert": MobileBertShape("mobilebert"),
    "mobilebert-tiny": MobileBertShape("mobilebert-tiny", feed_forwards=2, shared_bottleneck=False),
}
