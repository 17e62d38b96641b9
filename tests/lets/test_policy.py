import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lets.errors import LetsError
from lets.policy import LayerCase, Policy, group_starts

from tests.policies import policies


@st.composite
def any_policy(draw):
    return draw(policies(draw(st.integers(1, 10))))


def reachable_from_the_head(policy):
    """Nodes of the whole computation graph that the head needs, by walking its edges."""
    seen, stack = set(), [
        (letter, j) for j, letter in enumerate(policy.pool)
    ]  # fmt: skip
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        letter, j = node
        if letter == "f":
            read = policy.input[j]
            if read in "fs":
                stack.append(("f", j - 1))
            if read in "ps":
                stack += [("p", j - 1), ("qkv", j)]
    return seen


@given(any_policy())
def test_liveness_is_reachability(policy):
    nodes = reachable_from_the_head(policy)
    assert {j for letter, j in nodes if letter == "f"} == set(policy.live_layers)
    assert {j for letter, j in nodes if letter == "p"} == policy.frozen_hidden
    assert {j for letter, j in nodes if letter == "qkv"} == policy.frozen_qkv
    for j in range(policy.num_layers):
        above = j + 1
        read = ("f", above) in nodes and policy.input[above] == "f"
        assert policy.feeds[j] == read


@given(any_policy())
def test_cases_say_source_and_rows(policy):
    for j, case in enumerate(policy.cases):
        if not policy.live[j]:
            assert case is LayerCase.BYPASS
        else:
            assert str(case) == f"{policy.input[j]}-{'all' if policy.feeds[j] else 'cls'}"


@given(any_policy())
def test_chains_partition_the_live_layers(policy):
    assert tuple(j for chain in policy.chains for j in chain) == policy.live_layers
    for chain in policy.chains:
        assert policy.input[chain[0]] == "p"
        assert chain == tuple(range(chain[0], chain[-1] + 1))
        assert all(policy.input[j] in "fs" for j in chain[1:])
        assert all(policy.feeds[j - 1] == (policy.input[j] == "f") for j in chain[1:])


@given(any_policy())
def test_round_trip(policy):
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


def test_dead_chain():
    policy = Policy("pff", "fpp")
    assert policy.live == (True, False, False)
    assert policy.cases == (LayerCase.P_CLS, LayerCase.BYPASS, LayerCase.BYPASS)
    assert policy.frozen_hidden == {-1, 1, 2}
    assert policy.frozen_qkv == {0}


def test_chain_alive_through_its_top_alone():
    assert Policy("pff", "ppf").cases == (LayerCase.P_ALL, LayerCase.F_ALL, LayerCase.F_CLS)


def test_nothing_live():
    policy = Policy("pp", "pp")
    assert policy.live_layers == ()
    assert policy.chains == ()
    assert policy.frozen_hidden == {0, 1}
    assert policy.frozen_qkv == frozenset()


def test_fig2b():
    policy = Policy.preset("fig2b", 12)
    assert policy.to_dict() == {"input": "pppppfppfpff", "pool": "pppfffpfffff"}
    expected = "bypass bypass bypass p-cls p-all f-cls bypass p-all f-cls p-all f-all f-cls"
    assert " ".join(map(str, policy.cases)) == expected
    assert policy.frozen_hidden == {0, 1, 2, 3, 6, 8}
    assert policy.frozen_qkv == {3, 4, 7, 9}
    assert policy.chains == ((3,), (4, 5), (7, 8), (9, 10, 11))


@pytest.mark.parametrize(("layers", "groups"), [(12, 3), (24, 4), (6, 6), (6, 1), (1, 1)])
def test_group_presets(layers, groups):
    policy = Policy.preset(f"g-{groups}", layers)
    assert policy.pool == "f" * layers
    assert policy.input == ("p" + "f" * (layers // groups - 1)) * groups
    assert len(policy.chains) == groups
    assert group_starts(layers, groups) == {chain[0] for chain in policy.chains}


@pytest.mark.parametrize("depth", [1, 2, 5, 6])
def test_depth_presets(depth):
    policy = Policy.preset(f"depth-{depth}", 6)
    assert policy == Policy("p" * (7 - depth) + "f" * (depth - 1), "ffffff")
    assert max(map(len, policy.chains)) == depth
    assert policy.cases.count(LayerCase.P_CLS) == 7 - depth - (depth > 1)


def test_stream_presets_and_streamed():
    assert Policy.preset("stream-1", 4) == Policy("psss", "ffff")
    assert Policy.preset("stream-2", 6) == Policy("psssp" + "f", "ffffff")
    assert Policy.preset("stream-6", 6) == Policy.preset("depth-6", 6)
    # Not above what is bypassed, and not where all rows are read.
    assert Policy("pppp", "fpff").streamed() == Policy("ppps", "fpff")
    assert Policy("pppf", "ffff").streamed() == Policy("pspf", "ffff")


@given(any_policy())
def test_streamed_changes_no_liveness(policy):
    stream = policy.streamed()
    assert stream.live == policy.live
    assert stream.feeds == policy.feeds
    assert stream.streamed() == stream


@pytest.mark.parametrize(
    "name", ["g-5", "g-0", "g-13", "g-", "g-x", "depth-0", "depth-13", "depth-", "fig2", ""]
)
def test_unknown_or_uneven_presets_are_refused(name):
    with pytest.raises(LetsError):
        Policy.preset(name, 12)


def test_uneven_groups_name_what_is_allowed():
    with pytest.raises(LetsError, match=r"divide the 12 layers \(1, 2, 3, 4, 6, 12\), got 5"):
        Policy.preset("g-5", 12)


def test_fig2b_needs_twelve_layers():
    with pytest.raises(LetsError, match="must have 6 letters"):
        Policy.preset("fig2b", 6)


@pytest.mark.parametrize(
    ("input_letters", "pool", "message"),
    [
        ("ppx", "fff", "got 'x' at layer 2"),
        ("ppp", "fFf", "got 'F' at layer 1"),
        ("ppp\n", "ffff", "letters p, f and s"),
        ("ppp", "ffs", "letters p and f, got 's' at layer 2"),
        ("psf", "fff", "must not have f right above s"),
        ("sff", "fff", "start with p"),
        ("pp", "fff", "equally long"),
        ("fpp", "fff", "start with p"),
        ("", "", "one letter per layer"),
        (None, "fff", "input must be a string"),
        ("ppp", ["f", "f", "f"], "pool must be a string"),
    ],
)
def test_malformed_letters_are_refused(input_letters, pool, message):
    with pytest.raises(LetsError, match=message):
        Policy(input_letters, pool)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{'input': 'p'}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON object"),
        ("3", "JSON object"),
        ("{}", "missing 'input', missing 'pool'"),
        ('{"input": "ppp"}', "missing 'pool'"),
        ('{"input": "ppp", "pool": "fff", "groups": 3}', "unknown 'groups'"),
        ('{"input": 3, "pool": "fff"}', "must be a string"),
        ('{"input": "ppp", "input": "pff", "pool": "fff"}', "key 'input' occurs twice"),
        ('{"input": "ppp", "pool": "ffff"}', "equally long"),
    ],
)
def test_malformed_files_are_refused(text, message, tmp_path):
    file = tmp_path / "policy.json"
    file.write_text(text)
    with pytest.raises(LetsError, match=message) as error:
        Policy.from_spec(str(file), 3)
    assert "policy.json" in str(error.value)


def test_files(tmp_path):
    file = tmp_path / "policy.json"
    file.write_text('{"input": "ppf", "pool": "fff"}')
    assert Policy.from_json(file) == Policy.from_spec(str(file), 3) == Policy("ppf", "fff")
    with pytest.raises(LetsError, match="must have 12 letters, one per layer of bert-base, got 3"):
        Policy.from_spec(str(file), 12, "bert-base")
    with pytest.raises(LetsError, match="cannot be read"):
        Policy.from_json(tmp_path / "absent.json")
    with pytest.raises(LetsError, match="neither a file nor a preset"):
        Policy.from_spec("absent.json", 12)
    with pytest.raises(LetsError, match="must be a regular file"):
        Policy.from_spec(str(tmp_path), 12)
    file.write_bytes(b'\xef\xbb\xbf{"input": "ppf", "pool": "fff"}')  # as some editors save it
    assert Policy.from_json(file) == Policy("ppf", "fff")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LetsError, match="not JSON"):
        Policy.from_json(file)
