import pytest
import torch
from lets.heads import LayerwiseHead
from lets.policy_cost import head_cost
from lets.shape import EncoderShape, head_sizes


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_default_size_at_bert_base():
    head = LayerwiseHead(12, 768, num_labels=2)
    assert (head.projection_size, head.lstm_size) == (384, 128)
    assert count(head.projection) + count(head.lstm) == 821_632
    assert round(100 * 821_632 / 108_891_648, 2) == 0.75


@pytest.mark.parametrize("name", ["bert-base", "bert-large", "minilm-l6"])
@pytest.mark.parametrize("num_labels", [1, 5])
def test_cost_model_counts_its_parameters(name, num_labels):
    shape = EncoderShape.from_name(name)
    head = LayerwiseHead(shape.num_layers, shape.hidden_size, num_labels)
    assert head_cost(shape, num_labels).params == count(head)


@pytest.mark.parametrize(
    ("hidden", "sizes"), [(768, (384, 128)), (1024, (512, 168)), (384, (192, 64)), (24, (12, 8))]
)
def test_widths(hidden, sizes):
    assert head_sizes(hidden) == sizes


def lstm_by_hand(lstm, steps, suffix):
    """The last state of one direction, with the gates written out (i, f, g, o)."""
    w_in, w_state = (getattr(lstm, f"weight_{name}_l0{suffix}") for name in ("ih", "hh"))
    bias = getattr(lstm, f"bias_ih_l0{suffix}") + getattr(lstm, f"bias_hh_l0{suffix}")
    state = cell = steps[0].new_zeros(steps[0].shape[0], lstm.hidden_size)
    for step in steps:
        gates = step @ w_in.T + state @ w_state.T + bias
        write, keep, new, read = gates.chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + write.sigmoid() * new.tanh()
        state = read.sigmoid() * cell.tanh()
    return state


def test_reads_layers_in_both_directions():
    torch.manual_seed(0)
    head = LayerwiseHead(5, 12, 3, projection=7, lstm=4).double().eval()
    pooled = torch.randn(2, 5, 12, dtype=torch.float64)
    steps = list(head.projection(pooled).unbind(1))
    forward = lstm_by_hand(head.lstm, steps, "")
    backward = lstm_by_hand(head.lstm, steps[::-1], "_reverse")
    expected = head.classifier(torch.cat([forward, backward], dim=-1))
    torch.testing.assert_close(head(pooled), expected)


def test_every_layer_gets_a_gradient_and_empty_batches_work():
    torch.manual_seed(0)
    head = LayerwiseHead(3, 12, 2)
    pooled = torch.randn(2, 3, 12, requires_grad=True)
    head(pooled).sum().backward()
    assert (pooled.grad.abs().sum(dim=(0, 2)) > 0).all()
    assert head.eval()(pooled[:1]).shape == (1, 2)


def test_dropout_only_while_training():
    torch.manual_seed(0)
    head = LayerwiseHead(3, 12, 2, dropout=0.5)
    pooled = torch.randn(4, 3, 12)
    assert not torch.equal(head(pooled), head(pooled))
    head.eval()
    assert torch.equal(head(pooled), head(pooled))


def test_config_builds_the_same_head():
    head = LayerwiseHead(3, 12, 2, projection=5, lstm=3, dropout=0.2).eval()
    twin = LayerwiseHead(**head.config()).eval()
    twin.load_state_dict(head.state_dict())
    pooled = torch.randn(2, 3, 12)
    assert torch.equal(twin(pooled), head(pooled))


def test_rejects_wrong_shapes_and_sizes():
    head = LayerwiseHead(3, 12, 2)
    with pytest.raises(ValueError, match=r"pooled must have shape \[B, 3, 12\], got \[2, 4, 12\]"):
        head(torch.zeros(2, 4, 12))
    with pytest.raises(ValueError, match="num_labels must be positive, got 0"):
        LayerwiseHead(3, 12, 0)
    with pytest.raises(ValueError, match="lstm_size must be positive"):
        LayerwiseHead(3, 12, 2, lstm=0)
