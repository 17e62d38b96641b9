"""The files that gluebenchmark.com takes: a prediction for every row of the tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import write_file
from lets.glue import GLUE, find_file, glue_task, task_folder
from lets.pack import load_pack
from lets.run.engine import Engine
from lets.tables import read_delimited, read_table
from lets.task import Task
from lets.tokens import Texts

_NAMED = ("mnli", "qnli", "rte")  # tasks whose predictions are names; the others' are class numbers
_BLANK = "."  # stands for a text that is empty: every row needs a prediction


@dataclass(frozen=True)
class TestSet:
    """One test file: whose model answers it, where it stands, and how many rows GLUE's has."""

    __test__ = False  # not one of pytest's

    task: str
    folder: str
    stems: tuple[str, ...]
    rows: int


TEST_SETS: dict[str, TestSet] = {
    "CoLA": TestSet("cola", "CoLA", ("test",), 1063),
    "SST-2": TestSet("sst-2", "SST-2", ("test",), 1821),
    "MRPC": TestSet("mrpc", "MRPC", ("test",), 1725),
    "STS-B": TestSet("sts-b", "STS-B", ("test",), 1379),
    "QQP": TestSet("qqp", "QQP", ("test",), 390965),
    "MNLI-m": TestSet("mnli", "MNLI", ("test_matched",), 9796),
    "MNLI-mm": TestSet("mnli", "MNLI", ("test_mismatched",), 9847),
    "QNLI": TestSet("qnli", "QNLI", ("test",), 5463),
    "RTE": TestSet("rte", "RTE", ("test",), 3000),
    "WNLI": TestSet("wnli", "WNLI", ("test",), 146),
    "AX": TestSet("mnli", "AX", ("diagnostic", "test"), 1104),
}
_OPTIONAL = ("AX",)  # written where its file is there


@dataclass(frozen=True)
class Written:
    """One file of the submission."""

    file: str
    rows: int
    official_rows: int


@dataclass(frozen=True)
class Submission:
    """What was written, and what GLUE would still ask for."""

    files: tuple[Written, ...]
    missing: tuple[str, ...]
    archive: str | None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def write_submission(
    encoder: Encoder,
    packs: Sequence[str | Path],
    glue_dir: str | Path,
    output_dir: str | Path,
    batch_size: int = 32,
    archive: bool = False,
) -> Submission:
    """Answer the tests of every pack's task and write `<output_dir>/CoLA.tsv` and so on.

    Args:
        packs: Task packs; a pack's name tells its GLUE task.
        archive: Also put the files into submission.zip, which is what the server takes.
    """
    tasks = _by_task([load_pack(pack, encoder) for pack in packs])
    wanted = {name: test for name, test in TEST_SETS.items() if test.task in tasks}
    # All tests are read before the first is answered: a missing file shows at once.
    texts = {
        name: read_test(test, glue_dir)
        for name, test in wanted.items()
        if name not in _OPTIONAL or _is_there(test, glue_dir)
    }
    folder, files = Path(output_dir), []
    for name, rows in texts.items():
        predictions = _predict(encoder, tasks[TEST_SETS[name].task], rows, batch_size)
        lines = ["index\tprediction", *(f"{i}\t{p}" for i, p in enumerate(predictions))]
        write_file(folder / f"{name}.tsv", ("\n".join(lines) + "\n").encode())
        files.append(Written(f"{name}.tsv", len(rows), TEST_SETS[name].rows))
    if archive:
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in files:
                zipped.write(folder / file.file, file.file)
        write_file(folder / "submission.zip", memory.getvalue())
    missing = tuple(f"{name}.tsv" for name in TEST_SETS if name not in texts)
    return Submission(tuple(files), missing, "submission.zip" if archive else None)


def read_test(test: TestSet, glue_dir: str | Path) -> Texts:
    """Texts of a test file; unlike training files it may not lack a field anywhere."""
    task, path = GLUE[test.task], find_file(_folder(test, glue_dir), None, test.stems)
    parquet = path.suffix == ".parquet"
    table = read_table(path) if parquet else read_delimited(path)
    columns = (task.text, task.text_pair) if parquet else task.tsv_columns
    names = [name for name in columns if name is not None]
    for name in names:
        table.check_column(name)
    filled = [[str(row[name] or "").strip() or _BLANK for name in names] for _, row in table.rows]
    return [(row[0], row[1]) for row in filled] if len(names) == 2 else [row[0] for row in filled]


def _folder(test: TestSet, glue_dir: str | Path) -> Path:
    if test.folder == "AX" and (Path(glue_dir) / "diagnostic").is_dir():
        return Path(glue_dir) / "diagnostic"
    return task_folder(glue_dir, test.folder)


def _is_there(test: TestSet, glue_dir: str | Path) -> bool:
    try:
        find_file(_folder(test, glue_dir), None, test.stems)
    except LetsError:
        return False
    return True


def _by_task(packs: Sequence[Task]) -> dict[str, Task]:
    found: dict[str, Task] = {}
    for pack in packs:
        key, task = glue_task(pack.name)
        if key in found:
            raise LetsError(f"glue-submission: {key} must have one pack, got two")
        if sorted(pack.labels) != sorted(task.labels) or pack.is_pair != bool(task.text_pair):
            raise LetsError(
                f"glue-submission: the pack {pack.name} must be of GLUE's {key} (labels "
                f"{', '.join(task.labels) or 'none'}), got {', '.join(pack.labels) or 'none'}"
            )
        found[key] = pack
    return found


def _predict(encoder: Encoder, task: Task, texts: Texts, batch_size: int) -> list[str]:
    output = Engine(encoder, [task], batch_size=batch_size)(texts)[task.name]
    key, glue = glue_task(task.name)
    if glue.regression:
        return [f"{min(5.0, max(0.0, value)):.3f}" for value in output.scores.tolist()]
    if key in _NAMED:
        return [str(label) for label in output.labels]
    return [str(glue.labels.index(str(label))) for label in output.labels]
