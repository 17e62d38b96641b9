"""Random tasks on a tiny encoder, and what their plans must answer."""

import torch
from hypothesis import strategies as st
from lets.dense import evaluate_densely
from lets.plan.spec import TaskSpec

from tests.models import make_encoder, make_task, make_texts
from tests.policies import policies

LAYERS = 4
task_sets = st.lists(
    st.tuples(
        policies(LAYERS), st.sampled_from([0.0, 0.05, 0.4, "p", "c"]), st.sampled_from([1, 2, 3])
    ),
    min_size=1,
    max_size=5,
)
lengths = st.lists(st.integers(1, 18), min_size=1, max_size=3)


def make_tasks(chosen):
    """Tasks `t0`, `t1`, ... of (policy, density or a variant, number of labels)."""
    encoder = make_encoder(LAYERS)
    return {
        f"t{i}": make_task(encoder, policy, seed=i, name=f"t{i}",
                           labels=("a", "b", "c")[:labels] if labels > 1 else (),
                           is_pair=i % 2 == 1,
                           **({"variant": kind} if isinstance(kind, str) else {"density": kind}))
        for i, (policy, kind, labels) in enumerate(chosen)
    }  # fmt: skip


def make_batch(lengths):
    """Token ids of texts of these numbers of words."""
    texts = [make_texts(1, seed=i, shortest=n, longest=n)[0] for i, n in enumerate(lengths)]
    return make_encoder(LAYERS).tokenize(texts, 24)


def specs_of(tasks):
    return [TaskSpec.of(task) for task in tasks.values()]


@torch.no_grad()
def dense_answers(tasks, batch):
    encoder = make_encoder(LAYERS)
    models = {name: task.to_model(encoder) for name, task in tasks.items()}
    return models, {name: evaluate_densely(model, batch) for name, model in models.items()}


def assert_answers(found, expected):
    assert list(found) == list(expected)
    for name, logits in expected.items():
        torch.testing.assert_close(found[name], logits, rtol=1e-4, atol=2e-5)
