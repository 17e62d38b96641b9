"""Fuzz target of the pack reader under Atheris; `tests.fuzz.run` calls it with a corpus.

The first byte of an input says what the rest is, in a pack that is whole otherwise:
0 lets_config.json; 1 the same, its checksum made right; 2 lets_delta.safetensors; 3 the same, its
tensors' checksums made right; 4 and 5 changes of the config, and of the header of the delta file:
JSON [[path, value], ...] (set) or [[path], ...] (remove); 6 bytes of tensors, checksums right: JSON
[[tensor, position, byte], ...]. Whatever it is, reading ends with a pack or a LetsError.
"""

import json
import random
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from lets.errors import LetsError
from lets.files import sha256_of_json
from lets.pack import CONFIG, DELTA, read_config, read_pack, read_task, save_pack
from lets.pack_config import PackConfig
from lets.policy import Policy

from tests.models import make_encoder, make_task

# What parses, by module.
PARSER = {
    "lets.files": ("regular_file", "read_bytes", "parse_json", "unique_keys", "_check_nesting",
                   "_finite"),
    "lets.safe_reader": ("num_bytes", "read_tensors", "check_header", "sha256_of_tensor",
                         "_bytes_of", "_check_names", "_span"),
    "lets.pack_config": ("from_dict", "input", "check_task_name", "check_samples", "__init__",
                         "only", "get", "size", "_encoder", "_head", "_sample", "_tensor",
                         "_number"),
    "lets.pack_tensors": ("check_table", "build_task", "_matrix_shapes", "_vector_shape",
                          "_dense_shapes", "_new_head", "_check_finite"),
    "lets.policy": ("__post_init__", "from_dict"),
    "lets.delta": ("from_tensors", "_part"),
}  # fmt: skip
CORPUS = Path(__file__).with_name("corpus") / "pack.jsonl"  # [way, changes or text] a line
WAYS = 7
_VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 65536, 65537, 1 << 31, 10**400, 0.5, 1e300, "", "p", "f",
    "pf", "F32", "F16", "I32", "x" * 101, [], {}, [[]], [0], ["a", "a"],
)  # fmt: skip


class Target:
    """Reads a pack of which one file comes from the fuzzer."""

    def __init__(self, folder: Path) -> None:
        encoder = make_encoder(layers=1, hidden=2, heads=1, intermediate=3)
        self.folder = save_pack(
            folder / "pack", make_task(encoder, Policy("p", "f"), density=0.5), encoder,
            samples=["a text", "another"],
        )  # fmt: skip
        self.files = {name: (self.folder / name).read_bytes() for name in (CONFIG, DELTA)}
        self.config = read_config(self.folder)
        self._written = dict(self.files)

    def seeds(self) -> list[bytes]:
        """The corpus: the whole pack in each way, and the changes that it lists."""
        names = (CONFIG, CONFIG, DELTA, DELTA)
        whole = [bytes([i]) + self.files[name] for i, name in enumerate(names)]
        lines = map(json.loads, CORPUS.read_text().splitlines())
        return whole + [
            bytes([way]) + (rest if isinstance(rest, str) else json.dumps(rest)).encode()
            for way, rest in lines
        ]

    def __call__(self, data: bytes) -> None:
        """One execution: `read_pack`, without its first half where the config is the whole one."""
        way, rest = (data[0] % WAYS, data[1:]) if data else (0, b"")
        try:
            if way in (0, 1, 4):
                config = rest if way < 4 else _changed(self.files[CONFIG], rest)
                self._write(CONFIG, _signed(config) if way else config)
                self._write(DELTA, self.files[DELTA])
                read_pack(self.folder)
                return
            delta = rest
            if way > 4:
                header, tensors = _split(self.files[DELTA])
                if way == 5:
                    header = _changed(header, rest)
                else:
                    tensors = _poked(header, tensors, rest)
                delta = struct.pack("<Q", len(header)) + header + tensors
            self._write(DELTA, delta)
            read_task(self.folder, self._config_of(delta) if way in (3, 6) else self.config)
        except LetsError as error:
            assert str(self.folder) in str(error), error  # noqa: PT017

    def _write(self, name: str, content: bytes) -> None:
        if content != self._written[name]:
            (self.folder / name).write_bytes(content)
            self._written[name] = content

    def _config_of(self, delta: bytes) -> PackConfig:
        """The config with the checksums of whatever bytes the file has for each tensor."""
        table = dict(self.config.tensors)
        try:
            header, tensors = _split(delta)
            for name, entry in json.loads(header).items():
                if name in table:
                    begin, end = entry["data_offsets"]
                    table[name] = (table[name][0], sha256(tensors[begin:end]).hexdigest())
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
            pass
        return replace(self.config, tensors=table)


def _signed(config: bytes) -> bytes:
    try:
        document = json.loads(config)
        document["checksum"] = sha256_of_json({k: v for k, v in document.items()
                                               if k != "checksum"})  # fmt: skip
        return json.dumps(document).encode()
    except (ValueError, AttributeError, RecursionError):
        return config


def _split(delta: bytes) -> tuple[bytes, bytes]:
    length = struct.unpack("<Q", delta[:8])[0]
    return delta[8 : 8 + length], delta[8 + length :]


def _changed(text: bytes, changes: bytes) -> bytes:
    """JSON with the values at some paths set or removed, as far as the changes make sense."""
    document = json.loads(text)
    try:
        for path, *value in json.loads(changes):
            *above, last = path.split("/")
            node = document
            for key in above:
                node = node[int(key)] if isinstance(node, list) else node[key]
            last = int(last) if isinstance(node, list) else last
            if value:
                node[last] = value[0]
            else:
                del node[last]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        pass
    return json.dumps(document).encode()


def _poked(header: bytes, tensors: bytes, changes: bytes) -> bytes:
    """The tensors with some bytes replaced."""
    out, places = bytearray(tensors), json.loads(header)
    try:
        for name, position, byte in json.loads(changes):
            begin, end = places[name]["data_offsets"]
            out[begin + position % (end - begin)] = byte
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        pass
    return bytes(out)


def mutate(data: bytes, most: int, seed: int, other: Callable[[bytes, int], bytes]) -> bytes:
    """Half of the time a value somewhere in the JSON changes, otherwise `other` changes bytes."""
    draw = random.Random(seed)
    if len(data) < 2 or draw.random() < 0.5:
        return other(data, most)
    way, text, tail = data[0] % WAYS, data[1:], b""
    try:
        if way in (2, 3):
            text, tail = _split(text)
        document = json.loads(text)
        _change(document, draw)
        new = json.dumps(document).encode()
    except (ValueError, TypeError, struct.error, RecursionError):
        return other(data, most)
    if way in (2, 3):
        new = struct.pack("<Q", len(new)) + new + tail
    return (bytes([way]) + new)[:most]


def _change(document: dict | list, draw: random.Random) -> None:
    places: list[tuple[dict | list, str | int]] = []
    stack: list[dict | list] = [document]
    while stack:
        node = stack.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                stack.append(node[key])
    if not places:
        return
    node, key = draw.choice(places)
    what = draw.randrange(5)
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, dict):
        node[draw.choice(("x", *node))] = node[key]
    elif what == 2:
        other, place = draw.choice(places)
        node[key] = json.loads(json.dumps(other[place]))
    else:
        node[key] = draw.choice(_VALUES)


def main() -> None:
    import atheris

    for name in PARSER:
        module = sys.modules[name]
        for attribute, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__:
                _instrument(atheris, module, attribute, value)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        atheris.Setup(
            sys.argv,
            Target(Path(tmp)),
            custom_mutator=lambda data, most, seed: mutate(data, most, seed, atheris.Mutate),
        )
        atheris.Fuzz()


def _instrument(atheris, module, name: str, value) -> None:
    """Branches of functions and methods count as coverage."""
    if isinstance(value, type):
        for function in list(vars(value).values()):
            if hasattr(function, "__code__"):
                atheris.instrument_func(function)
            elif isinstance(function, classmethod):
                atheris.instrument_func(function.__func__)
    elif hasattr(value, "__code__"):
        atheris.instrument_func(value)


if __name__ == "__main__":
    main()
