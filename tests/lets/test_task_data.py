import pytest
from hypothesis import given
from hypothesis import strategies as st
from lets.errors import LetsError
from lets.task_data import TaskData, TaskRow, hold_out


def rows(*labels):
    return [TaskRow(f"text {i}", None, label) for i, label in enumerate(labels)]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=4, max_size=80),
    st.floats(0.05, 0.6),
    st.integers(0, 3),
)
def test_hold_out_is_deterministic_and_never_shares_a_text(examples, share, seed):
    all_rows = [TaskRow(f"text {number}", None, label) for number, label in examples]
    if len({row.text for row in all_rows}) < 8:
        return
    train, dev = hold_out(all_rows, share, seed, stratify=True)
    assert (train, dev) == hold_out(all_rows, share, seed, stratify=True)
    assert not {row.text for row in train} & {row.text for row in dev}
    assert sorted(map(str, train + dev)) == sorted(map(str, all_rows))
    assert train
    assert dev


def test_hold_out_keeps_proportions():
    train, dev = hold_out(rows(*"a" * 80, *"b" * 20), 0.1, 0, stratify=True)
    assert sorted(row.label for row in dev) == ["a"] * 8 + ["b"] * 2
    assert len(train) == 90
    assert hold_out(rows(*"a" * 80, *"b" * 20), 0.1, 1, stratify=True)[1] != dev


def test_subset_is_drawn_by_seed():
    data = TaskData("t", rows(*"ab" * 20), rows(*"ab" * 5), ("a", "b"))
    small = data.subset(7, 3, seed=1)
    assert (len(small.train), len(small.dev)) == (7, 3)
    assert small == data.subset(7, 3, seed=1)
    assert small != data.subset(7, 3, seed=2)
    assert data.subset(None, 100) == data
    for counts in ((0, None), (None, -1)):
        with pytest.raises(LetsError, match=r"must keep at least one row, got (0|-1)"):
            data.subset(*counts)


@pytest.mark.parametrize("label", ["a\x1b[31m", "a\nb", "\ud800"])
def test_labels_that_no_terminal_should_print(label):
    with pytest.raises(LetsError, match="labels must hold no control characters"):
        TaskData("t", rows(label), rows("b"), (label, "b"))


def test_rows_given_by_hand_are_checked_too():
    good = rows("a", "b")
    with pytest.raises(LetsError, match="t: dev must hold at least one row"):
        TaskData("t", good, [], ("a", "b"))
    with pytest.raises(LetsError, match="t: dev row 1: label must be one of a, b, got 'c'"):
        TaskData("t", good, rows("a", "c"), ("a", "b"))
    with pytest.raises(LetsError, match="t: train row 0: text must not be empty"):
        TaskData("t", [TaskRow(" ", None, "a")], good, ("a", "b"))
    with pytest.raises(LetsError, match="all single texts or all pairs"):
        TaskData("t", [*good, TaskRow("x", "y", "a")], good, ("a", "b"))
    with pytest.raises(LetsError, match="label must be a finite number, got nan"):
        TaskData("t", rows(float("nan")), rows(1.0), (), "regression")
