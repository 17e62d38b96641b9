"""The engine's work: every input once per length, batches of like lengths, all places filled."""

from hypothesis import given
from hypothesis import strategies as st
from lets.run.work import batches
from lets.tokens import Encoded

texts = st.text("ab", min_size=1, max_size=6)
tasks = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.tuples(st.lists(texts, min_size=1, max_size=6), st.integers(1, 7)),
    min_size=1,
)


def encode(items, limit):
    return [Encoded([ord(c) for c in item[:limit]], []) for item in items]


@given(tasks, st.integers(1, 3))
def test_every_place_gets_its_tokens(chosen, batch_size):
    inputs = {name: items for name, (items, _) in chosen.items()}
    limits = {name: limit for name, (_, limit) in chosen.items()}
    found, computed = {}, []
    for batch in batches(inputs, limits, encode, batch_size):
        assert 1 <= len(batch.rows) == len(batch.slots) <= batch_size
        assert len(batch.tasks) == len(set(batch.tasks))
        for row, slots in zip(batch.rows, batch.slots):
            text = "".join(map(chr, row.input_ids))
            computed.append((text, slots))
            assert {task for task, _ in slots} == set(batch.tasks)
            assert not any(slot in found for slot in slots)
            found |= dict.fromkeys(slots, text)
    expected = {
        (name, position): item[: limits[name]]
        for name, items in inputs.items()
        for position, item in enumerate(items)
    }
    assert found == expected


def test_limits_split_only_what_they_truncate():
    inputs = {"x": ["ab", "abab"], "y": ["ab", "abab"]}
    work = list(batches(inputs, {"x": 3, "y": 9}, encode, 8))
    assert sorted((batch.tasks, len(batch.rows)) for batch in work) == [
        (("x",), 1), (("x", "y"), 1), (("y",), 1),
    ]  # fmt: skip


def test_batches_are_sorted_by_length():
    work = batches({"x": ["aaaa", "a", "aaa", "aa"]}, {"x": 9}, encode, 2)
    assert [[len(row.input_ids) for row in batch.rows] for batch in work] == [[1, 2], [3, 4]]
