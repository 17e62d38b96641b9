"""Damaged and forged packs: each is refused by name, or answers as the whole one does.

A damaged pack is what disks and networks make: one byte changed, or the end missing. A forged one
is what an attacker makes: changed as well, but with every checksum right again.
"""

import json
import random
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import sha256_of_json
from lets.pack import CONFIG, DELTA, load_pack, save_pack
from lets.policy import Policy
from lets.safe_reader import TensorInfo, sha256_of_tensor
from lets.task import Task
from safetensors.torch import load, save

from tests.models import make_encoder, make_task, make_texts

FILES = (CONFIG, DELTA)
# What loading may take at its peak: twice the file, and what Python needs for a pack of no size.
MEMORY_FACTOR, MEMORY_FIXED = 2, 1 << 20
HOSTILE = (
    None, True, -1, 0, 1 << 31, 1 << 62, 10**300, 1e308, -0.0, 0.5, "", "p", "F64", "../x",
    "\u202e", "\ud800", [], {}, [[]], ["p"], {"": 0}, "f" * 70_000,
)  # fmt: skip


def small_pack(folder: Path) -> tuple[Path, Encoder]:
    """A pack of a few ten thousand bytes with live and bypassed layers."""
    encoder = make_encoder(layers=2, hidden=8, intermediate=12)
    task = make_task(encoder, Policy("pp", "pf"))
    return save_pack(folder / "pack", task, encoder), encoder


def damages(data: bytes, draw: random.Random, share: float = 1.0) -> Iterator[tuple[str, bytes]]:
    """Each byte changed, and each shorter length; a random `share` of both."""
    for kind in ("flip", "cut"):
        chosen = range(len(data))
        if share < 1.0:
            chosen = sorted(draw.sample(chosen, round(share * len(data))))
        for i in chosen:
            if kind == "cut":
                yield f"cut at {i}", data[:i]
            else:
                changed = data[i] ^ draw.randrange(1, 256)
                yield f"byte {i} is {changed}", data[:i] + bytes([changed]) + data[i + 1 :]


def forgeries(config: bytes, delta: bytes, draw: random.Random) -> Iterator[tuple[str, dict]]:
    """Endless: a value of the config or bytes of a tensor replaced, checksums made right."""
    tensors = load(delta)
    while True:
        document = json.loads(config)
        if draw.random() < 0.5:
            where, value = _replace(document, draw)
            files = {CONFIG: _signed(document), DELTA: delta}
            yield f"{where} is {value!r:.40}", files
            continue
        name = draw.choice(sorted(tensors))
        raw = bytearray(tensors[name].clone().view(torch.uint8).numpy().tobytes())
        if not raw:
            continue
        for _ in range(draw.randint(1, 4)):
            raw[draw.randrange(len(raw))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        forged = torch.frombuffer(raw, dtype=tensors[name].dtype).view(tensors[name].shape)
        document["tensors"][name]["sha256"] = sha256_of_tensor(forged)
        assert TensorInfo.of(forged).num_bytes == len(raw)
        yield (
            f"{name} has other bytes",
            {CONFIG: _signed(document), DELTA: save({**tensors, name: forged})},
        )


class Trial:
    """Loads mutants of one pack and counts what became of them."""

    def __init__(self, folder: Path) -> None:
        pack, self.encoder = small_pack(folder)
        self.files = {name: (pack / name).read_bytes() for name in FILES}
        self.folder = folder / "mutant"
        self.folder.mkdir()
        self.tried = self.refused = self.equal = self.forged_loaded = 0
        self.slowest_seconds, self.peak_bytes = 0.0, 0
        self._write(self.files)
        self.expected = self._answers(load_pack(self.folder, self.encoder))
        tracemalloc.start()

    def damage(self, name: str, mutants: Iterable[tuple[str, bytes]]) -> None:
        """Mutants of one file: refused with the file's name, or equal to the bit."""
        self._write(self.files)
        for what, content in mutants:
            (self.folder / name).write_bytes(content)
            task = self._load(f"{name}: {what}", (name,))
            if task is not None:
                assert torch.equal(self._answers(task), self.expected), f"{name}: {what}"
                self.equal += 1
        self._write(self.files)

    def forge(self, count: int, draw: random.Random) -> None:
        """Forgeries are other packs, so their answers may differ, but they must be answers."""
        mutants = forgeries(self.files[CONFIG], self.files[DELTA], draw)
        for _, (what, files) in zip(range(count), mutants, strict=False):
            self._write(files)
            task = self._load(what, FILES)
            if task is not None:
                assert self._answers(task).shape == self.expected.shape, what
                self.forged_loaded += 1

    def report(self) -> dict[str, float]:
        size = sum(map(len, self.files.values()))
        return {
            "tried": self.tried, "refused": self.refused, "equal": self.equal,
            "forged_loaded": self.forged_loaded, "slowest_seconds": round(self.slowest_seconds, 3),
            "pack_bytes": size, "peak_bytes": self.peak_bytes,
        }  # fmt: skip

    def close(self) -> None:
        tracemalloc.stop()

    def _load(self, what: str, names: tuple[str, ...]) -> Task | None:
        tracemalloc.reset_peak()
        before, begun = tracemalloc.get_traced_memory()[0], time.perf_counter()
        try:
            task = load_pack(self.folder, self.encoder)
        except LetsError as error:
            assert any(name in str(error) for name in names), f"{what}: {error}"  # noqa: PT017
            self.refused += 1
            task = None
        self.tried += 1
        self.slowest_seconds = max(self.slowest_seconds, time.perf_counter() - begun)
        peak = tracemalloc.get_traced_memory()[1] - before
        self.peak_bytes = max(self.peak_bytes, peak)
        size = sum((self.folder / name).stat().st_size for name in FILES)
        assert peak <= MEMORY_FACTOR * size + MEMORY_FIXED, f"{what}: took {peak} bytes"
        return task

    def _write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (self.folder / name).write_bytes(content)

    def _answers(self, task: Task) -> torch.Tensor:
        texts = self.encoder.tokenize(make_texts(3), task.max_length)
        with torch.no_grad():
            return task.to_model(self.encoder)(texts)


def _replace(document: dict, draw: random.Random) -> tuple[str, object]:
    """Replace one value, somewhere in the tree, by a hostile one."""
    places: list[tuple[str, dict | list, str | int]] = []

    def walk(node: dict | list, path: str) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((f"{path}{key}", node, key))
            if isinstance(node[key], dict | list):
                walk(node[key], f"{path}{key}.")

    walk(document, "")
    where, node, key = draw.choice(places)
    value = draw.choice(HOSTILE)
    node[key] = value
    return where, value


def _signed(document: dict) -> bytes:
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return json.dumps({**rest, "checksum": sha256_of_json(rest)}).encode()
