"""Task packs: round trip, atomic writes, other encoders and tokenizers."""

import json

import pytest
import torch
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import expand_packs, load_pack, read_pack, save_pack
from lets.policy import Policy
from lets.safe_reader import sha256_of_tensor
from lets.tokens import tokenizer_fingerprint
from lets.validate import validate_pack
from transformers import BertTokenizerFast

from tests.models import POLICY, VOCAB, logits_of, make_bert, make_encoder, make_task


@pytest.fixture
def encoder():
    return make_encoder()


@pytest.fixture
def pack(tmp_path, encoder):
    return save_pack(tmp_path / "pack", make_task(encoder, POLICY), encoder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_round_trip(tmp_path, encoder, dtype):
    task = make_task(encoder, POLICY, is_pair=False)
    save_pack(tmp_path / "pack", task, encoder, dtype=dtype, results={"accuracy": 0.5})
    again = load_pack(tmp_path / "pack", encoder)
    for field in ("name", "policy", "labels", "problem_type", "metric", "max_length", "is_pair"):
        assert getattr(again, field) == getattr(task, field)
    tolerance = {torch.float32: 0.0, torch.float16: 1e-2, torch.bfloat16: 1e-1}[dtype]
    torch.testing.assert_close(
        logits_of(again, encoder), logits_of(task, encoder), rtol=tolerance, atol=tolerance
    )
    report = validate_pack(tmp_path / "pack", encoder)
    assert report["samples_checked"] == 2
    assert report["max_difference"] <= 1e-6
    assert report["non_zeros"] == task.nnz


def test_half_precision_takes_at_most_five_bytes_a_non_zero(tmp_path, encoder):
    dense = make_task(encoder, POLICY, density=1.0)
    save_pack(tmp_path / "pack", dense, encoder, dtype=torch.float16)
    config, _ = read_pack(tmp_path / "pack")
    stored = sum(i.num_bytes for n, (i, _) in config.tensors.items() if n.endswith(("s", "ues"))
                 and n.count(".") == 3)  # fmt: skip
    assert stored <= 5 * dense.nnz


def test_regression_and_pairs(tmp_path, encoder):
    task = make_task(encoder, POLICY, labels=(), is_pair=True)
    samples = [("a house", "a tree"), ("one", "two")]
    save_pack(tmp_path / "pack", task, encoder, samples=samples)
    config, again = read_pack(tmp_path / "pack", encoder)
    assert [sample.input for sample in config.samples] == samples
    assert again.problem_type == "regression"
    assert again.is_pair
    assert validate_pack(tmp_path / "pack", encoder)["samples_checked"] == 2
    with pytest.raises(LetsError, match="samples must be at most 100, got 101"):
        save_pack(tmp_path / "many", task, encoder, samples=[("a", "b")] * 101)
    assert not (tmp_path / "many").exists()


def test_policy_without_a_live_layer(tmp_path, encoder):
    task = make_task(encoder, Policy("ppp", "ppp"))
    save_pack(tmp_path / "pack", task, encoder)
    assert torch.equal(
        logits_of(load_pack(tmp_path / "pack", encoder), encoder), logits_of(task, encoder)
    )


def test_replaces_a_pack_but_nothing_else(pack, tmp_path, encoder):
    save_pack(pack, make_task(encoder, POLICY, seed=1, name="other"), encoder)
    assert load_pack(pack, encoder).name == "other"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(b"x")
    with pytest.raises(LetsError, match="photos: exists and is no task pack"):
        save_pack(tmp_path / "photos", make_task(encoder, POLICY), encoder)
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["one.png"]
    (tmp_path / "empty").mkdir()
    save_pack(tmp_path / "empty", make_task(encoder, POLICY), encoder)


def test_writes_through_a_link(pack, tmp_path, encoder):
    (tmp_path / "latest").symlink_to(pack)
    save_pack(tmp_path / "latest", make_task(encoder, POLICY, name="other"), encoder)
    assert (tmp_path / "latest").is_symlink()
    assert load_pack(pack, encoder).name == "other"


def test_a_failed_write_leaves_what_was_there(pack, tmp_path, encoder, monkeypatch):
    before = {file.name: file.read_bytes() for file in pack.iterdir()}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("lets.pack.model_card", fail)
    with pytest.raises(LetsError, match=r"cannot be written \(disk full\)"):
        save_pack(pack, make_task(encoder, POLICY, seed=1), encoder)
    with pytest.raises(LetsError, match=r"cannot be written \(disk full\)"):
        save_pack(tmp_path / "new", make_task(encoder, POLICY, seed=1), encoder)
    assert {file.name: file.read_bytes() for file in pack.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["pack"]


def test_values_that_are_not_finite_are_not_written(tmp_path, encoder):
    task = make_task(encoder, POLICY)
    task.deltas[1]["out"].values[0] = torch.nan
    with pytest.raises(LetsError, match=r"layers\.1\.out\.values must be finite"):
        save_pack(tmp_path / "pack", task, encoder)
    task = make_task(encoder, POLICY)
    task.deltas[1]["out"].values[0] = 1e6  # finite, but not in half precision
    with pytest.raises(LetsError, match=r"layers\.1\.out\.values must be finite in torch.float16"):
        save_pack(tmp_path / "pack", task, encoder, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def make_other_tokenizer(folder, words, **options):
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return BertTokenizerFast(str(folder / "vocab.txt"), **options)


def test_another_tokenizer_is_refused(pack, tmp_path):
    words = [*VOCAB]
    i, j = words.index("red"), words.index("blue")
    words[i], words[j] = words[j], words[i]
    other = Encoder.from_model(make_bert(), make_other_tokenizer(tmp_path, words))
    with pytest.raises(LetsError, match=r"the tokenizer of .* must be the one"):
        load_pack(pack, other)


def test_tokenizers_of_one_vocabulary_may_differ_in_their_rules(tmp_path):
    cased, uncased = (
        make_other_tokenizer(tmp_path, [*VOCAB, "CAF\u00c9"], do_lower_case=lower)
        for lower in (False, True)
    )
    assert cased.get_vocab() == uncased.get_vocab()
    assert tokenizer_fingerprint(cased) != tokenizer_fingerprint(uncased)


def test_another_encoder_is_refused(pack):
    with pytest.raises(LetsError, match=r"lets_config\.json: encoder: the pack is for tiny-bert"):
        load_pack(pack, make_encoder(seed=1))
    with pytest.raises(LetsError, match="the pack is for tiny-bert"):
        load_pack(pack, make_encoder(layers=2))
    load_pack(pack)  # without an encoder the match is not checked


def test_checksum_of_one_entry_does_not_depend_on_its_stride():
    one = torch.tensor([7], dtype=torch.int32)
    strided = torch.as_strided(one, (1,), (0,)).to(torch.uint16)
    assert sha256_of_tensor(strided) == sha256_of_tensor(one.to(torch.uint16))
    assert sha256_of_tensor(torch.as_strided(one, (1,), (0,))) == sha256_of_tensor(one)
    nothing = torch.empty(0, dtype=torch.uint16)
    assert sha256_of_tensor(torch.as_strided(nothing, (0,), (0,))) == sha256_of_tensor(nothing)


@pytest.mark.parametrize("variant", ["c", "p"])
def test_variants_round_trip(variant, encoder, tmp_path):
    task = make_task(encoder, Policy("ppf", "fpf"), variant=variant)
    path = save_pack(tmp_path / "pack", task, encoder)
    config = json.loads((path / "lets_config.json").read_text())
    assert config["delta"] == ("dense" if variant == "c" else "sparse")
    assert (config["policy"] is None) == (variant == "p")
    loaded = load_pack(path, encoder)
    assert (loaded.variant, loaded.policy) == (variant, task.policy)
    assert torch.equal(logits_of(loaded, encoder), logits_of(task, encoder))
    report = validate_pack(path, encoder)
    assert (report["variant"], report["samples_checked"]) == (variant, 2)


def test_folders_of_packs(tmp_path):
    encoder = make_encoder()
    paths = [
        save_pack(tmp_path / name, make_task(encoder, Policy("ppf", "pff"), name=name), encoder)
        for name in ("b", "a")
    ]
    assert expand_packs([tmp_path]) == sorted(map(str, paths))
    assert expand_packs([paths[0], "owner/name"]) == [str(paths[0]), "owner/name"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(LetsError, match="must be a task pack or a folder of packs"):
        expand_packs([tmp_path / "empty"])
