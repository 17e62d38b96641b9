"""GLUE tasks by name from a local folder: official TSV files, or Parquet as in the HF data set.

Columns, labels and scores follow the benchmark (gluebenchmark.com); class order is that of HF.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lets.data import Columns, read_rows
from lets.errors import LetsError
from lets.scores import CLASSIFICATION, REGRESSION
from lets.tables import Table, read_delimited, read_table
from lets.task_data import TaskData, TaskRow, hold_out

_ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class GlueTask:
    """Where a GLUE task's texts and labels stand, in TSV and in Parquet."""

    folder: str
    labels: tuple[str, ...]
    metric: str
    text: str
    text_pair: str | None = None
    label: str = "label"  # in TSV; Parquet always has `label`
    tsv_text: tuple[str, str] | None = None  # where TSV names the texts differently
    header: tuple[str, ...] | None = None  # for TSV without a line of names
    also: str | None = None  # a second score that GLUE reports

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def tsv_columns(self) -> tuple[str, str | None]:
        """Columns of the texts in TSV."""
        return self.tsv_text or (self.text, self.text_pair)


GLUE: dict[str, GlueTask] = {
    "cola": GlueTask(
        "CoLA", ("unacceptable", "acceptable"), "matthews", "sentence",
        header=("source", "label", "star", "sentence"),
    ),
    "sst-2": GlueTask("SST-2", ("negative", "positive"), "accuracy", "sentence"),
    "mrpc": GlueTask(
        "MRPC", ("not_equivalent", "equivalent"), "f1", "sentence1", "sentence2",
        label="Quality", tsv_text=("#1 String", "#2 String"), also="accuracy",
    ),
    "sts-b": GlueTask(
        "STS-B", (), "spearman", "sentence1", "sentence2", label="score", also="pearson"
    ),
    "qqp": GlueTask(
        "QQP", ("not_duplicate", "duplicate"), "f1", "question1", "question2",
        label="is_duplicate", also="accuracy",
    ),
    "mnli": GlueTask(
        "MNLI", ("entailment", "neutral", "contradiction"), "accuracy", "premise", "hypothesis",
        label="gold_label", tsv_text=("sentence1", "sentence2"),
    ),
    "qnli": GlueTask("QNLI", _ENTAILMENT, "accuracy", "question", "sentence"),
    "rte": GlueTask("RTE", _ENTAILMENT, "accuracy", "sentence1", "sentence2"),
    "wnli": GlueTask(
        "WNLI", ("not_entailment", "entailment"), "accuracy", "sentence1", "sentence2"
    ),
}  # fmt: skip

_TRAIN = ("train", "msr_paraphrase_train")
_DEV = ("dev", "dev_matched", "validation", "validation_matched")
_MISMATCHED = ("dev_mismatched", "validation_mismatched")


def glue_task(name: str) -> tuple[str, GlueTask]:
    """A task by its name in any common spelling: `SST-2`, `sst2`, `sst-2`."""
    spelling = name.lower().replace("-", "").replace("_", "")
    for key, task in GLUE.items():
        if key.replace("-", "") == spelling:
            return key, task
    raise LetsError(f"glue: task must be one of {', '.join(GLUE)}, got {name!r}")


def load_glue(
    name: str,
    folder: str | Path,
    train_file: str | None = None,
    dev_file: str | None = None,
    dev_share: float = 0.1,
    seed: int = 0,
) -> TaskData:
    """A GLUE task from `<folder>/<task>/`, e.g. `glue/CoLA/train.tsv` and `dev.tsv`.

    Args:
        train_file: Name of the file inside the task's folder, where it is not the usual one.
        dev_file: The same for dev (MNLI: default dev_matched); `train` holds `dev_share` of the
            train rows out.
    """
    key, task = glue_task(name)
    directory = task_folder(folder, task.folder)
    train = _labelled(task, find_file(directory, train_file, _TRAIN))
    if dev_file == "train":
        train, dev = hold_out(train, dev_share, seed, stratify=not task.regression)
    else:
        dev = _labelled(task, find_file(directory, dev_file, _DEV))
    return task_data(key, train, dev)


def load_mismatched(folder: str | Path) -> list[TaskRow] | None:
    """MNLI's second dev set from a GLUE folder, if it is there."""
    task = GLUE["mnli"]
    directory = task_folder(folder, task.folder)
    found = _search(directory, _MISMATCHED)
    return None if found is None else _labelled(task, found)


def task_data(key: str, train: list[TaskRow], dev: list[TaskRow]) -> TaskData:
    """A GLUE task's rows with its labels, its kind of answer and its metric."""
    task = GLUE[key]
    problem_type = REGRESSION if task.regression else CLASSIFICATION
    return TaskData(key, train, dev, task.labels, problem_type, task.metric)


def task_folder(root: str | Path, name: str) -> Path:
    """The folder of a task, in any common spelling."""
    root = Path(root)
    if not root.is_dir():
        raise LetsError(f"glue: folder {root} not found")
    wanted = {name.lower(), name.lower().replace("-", "")}
    for path in sorted(root.iterdir()):
        if path.is_dir() and path.name.lower() in wanted:
            return path
    raise LetsError(f"glue: folder {root / name} not found")


def find_file(directory: Path, given: str | None, stems: tuple[str, ...]) -> Path:
    """A file of a task: the given one, or the first of the usual ones that is there."""
    if given is not None:
        return directory / given
    found = _search(directory, stems)
    if found is None:
        names = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
        raise LetsError(
            f"glue: {directory / stems[0]}.tsv (or .parquet) not found; the folder holds {names}. "
            f"Name the {stems[0]} file"
        )
    return found


def _search(directory: Path, stems: tuple[str, ...]) -> Path | None:
    for stem in stems:
        # Sharded exports are called train-00000-of-00001.parquet.
        for pattern in (f"{stem}.tsv", f"{stem}.txt", f"{stem}.parquet", f"{stem}-*.parquet"):
            found = sorted(directory.glob(pattern))
            if len(found) == 1:
                return found[0]
    return None


def _labelled(task: GlueTask, path: Path) -> list[TaskRow]:
    if path.suffix == ".parquet":
        return hub_rows(task, read_table(path))
    if not path.is_file():
        raise LetsError(f"{path}: file not found")
    # The official QQP and MRPC files have rows that lack fields.
    table = read_delimited(path, columns=task.header, skip_incomplete=True)
    return _rows(task, table, Columns(*task.tsv_columns, task.label))


def hub_rows(task: GlueTask, table: Table) -> list[TaskRow]:
    """Rows of a table with the columns of the HF data set."""
    return _rows(task, table, Columns(task.text, task.text_pair, "label"))


def _rows(task: GlueTask, table: Table, columns: Columns) -> list[TaskRow]:
    if not task.regression:
        table = _with_names(table, columns.label or "label", task.labels)
    return read_rows(table, columns, task.regression, task.labels or None)


def _with_names(table: Table, column: str, labels: tuple[str, ...]) -> Table:
    """The same table with class ids (0, "1") replaced by names; other values stay as they are."""
    names: dict[object, str] = {}
    for index, label in enumerate(labels):
        names[index] = names[str(index)] = label
    table.check_column(column)
    rows = [
        (where, {**record, column: names.get(record[column], record[column])})
        for where, record in table.rows
    ]
    return Table(table.path, table.columns, rows)
