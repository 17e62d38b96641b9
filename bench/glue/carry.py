"""The grid's inputs as one small folder, for machines that files have to be carried to:
``python -m bench.glue.carry --data <GLUE folder> --encoder <folder> --out <folder> --tasks RTE …``.

Writes ``encoder/`` with weights in fp16 (training computes in fp32 all the same) and ``glue/`` with
the tasks' files. To the grid it is another encoder than the fp32 one: give it its own ``--out``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import write_folder
from lets.glue import glue_task, task_folder
from lets.quiet import quiet_transformers


def carry(data: Path, encoder: str, tasks: list[str], out: Path) -> int:
    """Write the folder; returns its size in bytes."""
    sources = [task_folder(data, glue_task(name)[1].folder) for name in tasks]
    Encoder.from_pretrained(encoder)  # says what is wrong with it before anything is written

    def fill(folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        with quiet_transformers():
            model = AutoModel.from_pretrained(
                encoder, use_safetensors=True, trust_remote_code=False, dtype=torch.float16
            )
            model.save_pretrained(folder / "encoder")
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
        tokenizer.save_pretrained(folder / "encoder")
        for source in sources:
            shutil.copytree(source, folder / "glue" / source.name)

    write_folder(out, fill)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", required=True)
    args = parser.parse_args(arguments)
    try:
        size = carry(args.data, args.encoder, args.tasks, args.out)
    except LetsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
