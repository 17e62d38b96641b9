"""README.md of a task pack: what a user of the task wants to know."""

from __future__ import annotations

import json
from math import prod

from lets.delta import MATRICES
from lets.pack_config import PackConfig
from lets.shape import EncoderShape

_MATRICES = (".values", *(f".{matrix}.weight" for matrix in MATRICES))


def model_card(config: PackConfig, shape: EncoderShape) -> str:
    """Markdown with the front matter that model hubs read."""
    source = str(config.encoder["source"])
    values = sum(
        prod(info.shape) for name, (info, _) in config.tensors.items() if name.endswith(_MATRICES)
    )
    kind = "weights of its own (LeTS-(c))" if config.dense else "sparse weights"
    indices = (".crow_indices", ".col_indices")
    parameters = sum(
        prod(info.shape) for name, (info, _) in config.tensors.items() if not name.endswith(indices)
    )
    size = sum(info.num_bytes for info, _ in config.tensors.values())
    answers = ", ".join(config.labels) if config.labels else "a number"
    example = ["A text.", "Its partner."] if config.is_pair else "A text."
    call = f"[({example[0]!r}, {example[1]!r})]" if config.is_pair else f"[{example!r}]"
    results = "".join(f"| {name} | {value:.4f} |\n" for name, value in config.results.items())
    table = f"\n| score | value |\n| --- | ---: |\n{results}" if results else "\nNone recorded.\n"
    front = {
        "library_name": "lets-ext",
        "pipeline_tag": "text-classification",
        "base_model": source,
        "tags": ["lets", "sparse-delta"],
    }
    head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
    return f"""---
{head}---

# {config.name}

Answers {"pairs of texts" if config.is_pair else "texts"} with {answers}. Not a model by itself: \
a LeTS task pack that adds {values / shape.num_parameters:.2%} {kind} \
({parameters / shape.num_parameters:.2%} with biases, LayerNorms and head, {size / 1e6:.1f} MB) to \
the frozen encoder `{source}`, which any number of packs share in one pass.

## Use

```python
from lets.run.engine import Engine

engine = Engine.from_pretrained({source!r}, ["path/of/this/folder"])
print(engine({call})[{config.name!r}].labels)
```

```
lets validate path/of/this/folder --encoder {source}
```

## What it computes

- Policy: input `{config.policy.input}`, pool `{config.policy.pool}`; \
{len(config.policy.live_layers)} of {shape.num_layers} layers are the task's own.
- Texts are truncated to {config.max_length} tokens.
- Encoder: revision {config.encoder["revision"] or "not pinned"}, fingerprint \
`{config.encoder["fingerprint"]}`. Another encoder is refused.

## Scores
{table}
## Limits

It answers as its training data taught it, within their language, domain and biases; check it on \
your own texts before you rely on it.
"""
