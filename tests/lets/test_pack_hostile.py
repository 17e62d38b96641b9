"""Task packs from strangers: everything a hostile folder may try is refused, and nothing breaks."""

import json
import os
import struct
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lets.errors import LetsError
from lets.files import read_bytes, sha256_of_json
from lets.pack import CONFIG, DELTA, load_pack, save_pack
from lets.policy import Policy
from lets.safe_reader import sha256_of_tensor
from lets.validate import validate_pack
from safetensors.torch import load_file, save_file

from tests.models import POLICY, logits_of, make_encoder, make_task


@pytest.fixture
def encoder():
    return make_encoder()


@pytest.fixture
def pack(tmp_path, encoder):
    return save_pack(tmp_path / "pack", make_task(encoder, POLICY), encoder)


def change_config(pack, change):
    """Rewrite the config with a right checksum: what a clever attacker would do."""
    config = json.loads((pack / CONFIG).read_text())
    config = change(config) or config
    config.pop("checksum", None)
    config["checksum"] = sha256_of_json(config)
    (pack / CONFIG).write_text(json.dumps(config))


def change_tensor(pack, name, change):
    """Rewrite a tensor and every checksum of it."""
    tensors = load_file(pack / DELTA)
    tensors[name] = change(tensors[name])
    save_file(tensors, pack / DELTA)
    entry = {"sha256": sha256_of_tensor(tensors[name]), "shape": list(tensors[name].shape)}
    change_config(pack, lambda c: c["tensors"][name].update(entry))


def put(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


def swap(field, value, *keys):
    def change(config):
        inner = config
        for key in keys:
            inner = inner[key]
        inner[field] = value

    return change


HOSTILE_CONFIGS = {
    "format must be": swap("format", "other"),
    "schema_version must be 1, got 2": swap("schema_version", 2),
    "extra is unknown": swap("extra", 1),
    "metric is missing": lambda c: {k: v for k, v in c.items() if k != "metric"},
    "delta must be one of sparse, dense": swap("delta", "ternary"),
    "name must be 1 to 100 letters": swap("name", "../../etc/passwd"),
    "policy: input must hold only": swap("policy", {"input": "pxf", "pool": "pff"}),
    "policy: input and pool must have 3 letters": swap("policy", {"input": "pp", "pool": "pf"}),
    "head.type must be": swap("type", "pickle", "head"),
    "head.lstm must be between 1 and 65536": swap("lstm", 10**9, "head"),
    "head.num_labels must be 2, got 3": swap("num_labels", 3, "head"),
    "head.dropout must be": swap("dropout", 1.5, "head"),
    "labels must be different": swap("labels", ["a", "a"]),
    "labels must be names": swap("labels", [["a"], {}]),
    "labels must be list": swap("labels", "no"),
    "problem_type must be": swap("problem_type", "regresion"),
    "metric: must be": swap("metric", "bleu"),
    "max_length must be int": swap("max_length", True),
    "max_length must be between 3": swap("max_length", 2),
    "encoder.fingerprint must be a sha256": swap("fingerprint", "x", "encoder"),
    "encoder.tokenizer must be a sha256": swap("tokenizer", "x", "encoder"),
    "encoder.hidden_size must be between": swap("hidden_size", 1 << 40, "encoder"),
    "samples must be at most 100, got 101": lambda c: {**c, "samples": c["samples"][:1] * 101},
    r"samples\[1\] must have at most 10000 characters": swap("text", "a " * 5001, "samples", 1),
    r"samples\[0\] must have texts": swap("text", " ", "samples", 0),
    r"samples\[0\].logits must be a finite number": swap("logits", [10**400, 0.0], "samples", 0),
    "tensors.head.classifier.bias must be F32": swap(
        "shape", [1 << 30], "tensors", "head.classifier.bias"
    ),
    r"tensors.layers.1.qkv.values must be F32 or F16 or BF16 \[": swap(
        "dtype", "I32", "tensors", "layers.1.qkv.values"
    ),
    "tensors.head.classifier.bias.dtype must be one of": swap(
        "dtype", "F64", "tensors", "head.classifier.bias"
    ),
    "tensors.layers.1.out.col_indices must have at most": swap(
        "shape", [1 << 30], "tensors", "layers.1.out.col_indices"
    ),
    "tensors.layers.0.x is unknown": swap(
        "layers.0.x", {"dtype": "F32", "shape": [1], "sha256": "0" * 64}, "tensors"
    ),
    "tensors.layers.2.down.values is missing": lambda c: c["tensors"].pop("layers.2.down.values")
    and None,
}  # fmt: skip


def test_samples_that_changed_are_found(pack, encoder):
    change_config(pack, lambda c: c["samples"][1]["logits"].__setitem__(0, 3.0))
    assert load_pack(pack, encoder).name == "task"
    with pytest.raises(LetsError, match=r"samples\[1\]: logits must be within 0.0001"):
        validate_pack(pack, encoder)


@pytest.mark.parametrize("message", HOSTILE_CONFIGS)
def test_hostile_config(pack, encoder, message):
    change_config(pack, HOSTILE_CONFIGS[message])
    with pytest.raises(LetsError, match=rf"lets_config\.json: .*{message}"):
        load_pack(pack)


def test_config_must_match_its_checksum_and_be_strict_json(pack):
    text = (pack / CONFIG).read_text()
    for changed, message in (
        (text.replace('"max_length": 24', '"max_length": 25'), "checksum differs"),
        (text.replace('"max_length": 24', '"max_length": NaN'), "NaN is no JSON number"),
        (text.replace('"name": "task"', '"name": "task", "name": "b"'), "'name' occurs twice"),
        (text[:-20], "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must be a JSON object"),
    ):
        (pack / CONFIG).write_text(changed)
        with pytest.raises(LetsError, match=rf"lets_config\.json: .*{message}"):
            load_pack(pack)


HOSTILE_TENSORS = {
    r"layers\.1\.qkv.*row 0": ("layers.1.qkv.crow_indices", put(1, -5)),
    r"layers\.1\.qkv.*row": ("layers.1.qkv.crow_indices", put(2, 2_000_000_000)),
    r"layers\.1\.up.*row": ("layers.1.up.crow_indices", put(-1, 0)),
    r"layers\.2\.out.*row": ("layers.2.out.col_indices", put(0, 65535)),
    r"layers\.2\.out.*strictly": ("layers.2.out.col_indices", lambda t: torch.zeros_like(t)),
    r"layers\.2\.down\.values must be finite, got nan in row": (
        "layers.2.down.values", put(3, torch.nan),
    ),
    r"layers\.2\.norm_weight_delta must be finite": (
        "layers.2.norm_weight_delta", put(3, -torch.inf),
    ),
    r"head\.projection\.weight must be finite": ("head.projection.weight", put(0, torch.inf)),
}  # fmt: skip


@pytest.mark.parametrize("message", HOSTILE_TENSORS)
def test_hostile_tensors(pack, message):
    change_tensor(pack, *HOSTILE_TENSORS[message])
    with pytest.raises(LetsError, match=rf"lets_delta\.safetensors: .*{message}"):
        load_pack(pack)


def test_damaged_values_are_found(pack):
    data = bytearray((pack / DELTA).read_bytes())
    data[-3] ^= 1
    (pack / DELTA).write_bytes(data)
    with pytest.raises(LetsError, match=r"lets_delta\.safetensors: .*checksum differs"):
        load_pack(pack)


def rewrite_header(pack, change):
    data = (pack / DELTA).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    text = change(header)
    raw = (text if isinstance(text, str) else json.dumps(header)).encode()
    (pack / DELTA).write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


def overlap(header):
    a, b = "layers.1.out_bias_delta", "layers.2.out_bias_delta"
    header[a]["data_offsets"] = header[b]["data_offsets"]


HOSTILE_HEADERS = {
    "data_offsets must start at": overlap,
    "data_offsets must span": swap("data_offsets", [0, 1 << 60], "head.classifier.bias"),
    "data_offsets must span 8 bytes, got": swap("data_offsets", [True, 9], "head.classifier.bias"),
    "must be F32": swap("dtype", "F64", "head.classifier.bias"),
    r"must be F32 \[2\]": swap("shape", [-2], "head.classifier.bias"),
    "header entry must have": swap("head.classifier.bias", 7),
    "tensor head.classifier.bias is missing": lambda h: h.pop("head.classifier.bias") and None,
    "tensor head.x is unknown": lambda h: h.update(
        {"head.x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    ),
    "occurs twice": lambda h: json.dumps(h)[:-1] + ', "head.classifier.bias": 1}',
    "not JSON": lambda h: "{",
}


@pytest.mark.parametrize("message", HOSTILE_HEADERS)
def test_hostile_header(pack, message):
    rewrite_header(pack, HOSTILE_HEADERS[message])
    with pytest.raises(LetsError, match=rf"lets_delta\.safetensors: .*{message}"):
        load_pack(pack)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_file(pack, kept):
    data = (pack / DELTA).read_bytes()
    (pack / DELTA).write_bytes(data[:kept])
    with pytest.raises(LetsError, match=r"lets_delta\.safetensors: .*(truncated|JSON)"):
        load_pack(pack)
    (pack / DELTA).write_bytes(data + b"x")
    with pytest.raises(LetsError, match="something appended"):
        load_pack(pack)


@given(st.data())
def test_any_damage_is_a_clear_error(tmp_path_factory, data):
    """Bytes changed, cut out or put in, anywhere in either file: LetsError or an equal task."""
    encoder = make_encoder()
    whole = tmp_path_factory.getbasetemp() / "whole"
    if not whole.exists():
        save_pack(whole, make_task(encoder, POLICY), encoder)
    files = {name: (whole / name).read_bytes() for name in (CONFIG, DELTA)}
    name = data.draw(st.sampled_from(sorted(files)))
    raw = bytearray(files[name])
    begin = data.draw(st.integers(0, min(len(raw), 3000)))
    end = begin + data.draw(st.integers(0, 9))
    raw[begin:end] = data.draw(st.binary(max_size=9))
    damaged = tmp_path_factory.mktemp("damaged")
    for other, content in (files | {name: bytes(raw)}).items():
        (damaged / other).write_bytes(content)
    try:
        task = load_pack(damaged, encoder)
    except LetsError as error:
        assert name in str(error)  # noqa: PT017
    else:
        assert torch.equal(logits_of(task, encoder), logits_of(load_pack(whole), encoder))


def test_links_and_other_kinds_of_files_are_refused(pack, tmp_path):
    for name in (CONFIG, DELTA):
        data = (pack / name).read_bytes()
        (tmp_path / "elsewhere").write_bytes(data)
        (pack / name).unlink()
        (pack / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(LetsError, match=f"{name}: must be a regular file, got a link"):
            load_pack(pack)
        (pack / name).unlink()
        os.mkfifo(pack / name)
        with pytest.raises(LetsError, match=f"{name}: must be a regular file"):
            load_pack(pack)
        (pack / name).unlink()
        (pack / name).mkdir()
        with pytest.raises(LetsError, match=f"{name}: must be a regular file"):
            load_pack(pack)
        (pack / name).rmdir()
        with pytest.raises(LetsError, match=f"{name}: cannot be read"):
            load_pack(pack)
        (pack / name).write_bytes(data)
    load_pack(pack)


def test_what_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")  # "../x" must not exist
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "none", "../x", "name"):
        with pytest.raises(LetsError, match="must be the folder of a task pack or a hub id"):
            load_pack(path)


def test_files_larger_than_what_they_can_hold_are_not_read(pack):
    """Holes take no disk: whoever sends a pack pays nothing for 10 GB of them."""
    for name, message in (
        (DELTA, r"must be at most \d+ bytes, got 10\d{9}"),
        (CONFIG, "must be at most 16777216"),
    ):
        data = (pack / name).read_bytes()
        with open(pack / name, "r+b") as file:
            file.truncate(10 << 30)
        with pytest.raises(LetsError, match=rf"{name}: {message}"):
            load_pack(pack)
        (pack / name).write_bytes(data)


def test_a_header_that_claims_ten_gigabytes(pack):
    data = (pack / DELTA).read_bytes()
    (pack / DELTA).write_bytes(struct.pack("<Q", 10 << 30) + data[8:])
    with pytest.raises(LetsError, match="the header claims 10737418240"):
        load_pack(pack)


@pytest.mark.parametrize("depth", [40, 900, 970, 990, 998, 5000])
def test_deep_nesting_is_refused_wherever_it_would_break(pack, depth):
    """json.loads and json.dumps give up at different depths: neither decides."""
    config = json.loads((pack / CONFIG).read_text())
    text = json.dumps({**config, "results": 0}).replace('"results": 0', '"results": ' + "[" * depth
                                                        + "]" * depth)  # fmt: skip
    (pack / CONFIG).write_text(text)
    with pytest.raises(LetsError, match=r"lets_config\.json: is not JSON"):
        load_pack(pack)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"\\ud800"', "surrogates not allowed"),
        ("1e999", "a number is too large"),
        ("9" * 5000, "4300 digits"),
        ('"\x1b[31m"', "control character"),
    ],
)
def test_json_that_would_trip_up_a_later_reader(pack, text, message):
    (pack / CONFIG).write_text(f'{{"name": {text}}}')
    with pytest.raises(LetsError, match=rf"lets_config\.json: is not JSON .*{message}"):
        load_pack(pack)


def test_reading_takes_no_more_memory_than_the_file(pack):
    tracemalloc.start()
    try:
        read_bytes(pack / CONFIG, 1 << 40)
        assert tracemalloc.get_traced_memory()[1] < 2 * (pack / CONFIG).stat().st_size + 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("variant", "change", "message"),
    [
        ("p", {"policy": {"input": "ppp", "pool": "fff"}}, "policy must be null"),
        ("c", {"policy": None}, "policy must be an object"),
        ("c", {"delta": "sparse"}, r"tensors\.layers\.0\.qkv\.crow_indices is missing"),
        ("p", {"head": {"type": ["pooler"]}}, r"head\.type must be one of"),
    ],
)
def test_variants_hostile_config(variant, change, message, encoder, tmp_path):
    task = make_task(encoder, Policy("ppf", "fpf"), variant=variant)
    path = save_pack(tmp_path / "pack", task, encoder)
    change_config(path, lambda config: config.update(change))
    with pytest.raises(LetsError, match=message):
        load_pack(path)
