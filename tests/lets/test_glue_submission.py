"""Submission files: rows, names, ranges, and what is refused before anything is answered."""

import json
import zipfile

import pytest
from lets.cli import app
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.glue import GLUE
from lets.glue_submission import TEST_SETS, read_test, write_submission
from lets.pack import load_pack, save_pack
from lets.policy import Policy
from lets.run.engine import Engine
from typer.testing import CliRunner

from tests.models import make_task, save_bert

# Headers of the official test files over rows made up in their form.
TESTS = {
    "CoLA/test.tsv": "index\tsentence\n0\ta red house\n1\tthe \"tree sleeps\n2\tvery old\n",
    "STS-B/test.tsv": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    "sentence2\n0\tg\tf\t2012\t1\tn\tn\ta tree\tthe tree\n1\tg\tf\t2012\t1\tn\tn\tone\ttwo\n",
    "MRPC/test.tsv": "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\told\tnew\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tvery old\t\n1\tnew\told\n",
    "MNLI/test_matched.tsv": "index\tsentence1\tsentence2\n0\ta tree\ta house\n1\told\tnew\n",
    "MNLI/test_mismatched.tsv": "index\tsentence1\tsentence2\n0\tthe river\truns\n",
    "diagnostic/diagnostic.tsv": "index\tsentence1\tsentence2\n0\ta river\tsleeps\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\ta tree\ta house\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submission")
    encoder = Encoder.from_pretrained(save_bert(folder / "encoder"))
    for seed, (name, glue) in enumerate(GLUE.items()):
        task = make_task(
            encoder, Policy("ppf", "pff"), seed, name=name, labels=glue.labels,
            is_pair=glue.text_pair is not None,
        )  # fmt: skip
        save_pack(folder / name, task, encoder)
    for name, text in TESTS.items():
        (folder / "glue" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "glue" / name).write_text(text, encoding="utf-8")
    return encoder, folder


def predictions(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "index\tprediction"
    rows = [line.split("\t") for line in lines[1:]]
    assert [index for index, _ in rows] == [str(i) for i in range(len(rows))]
    return [value for _, value in rows]


def test_a_file_per_test(saved, tmp_path):
    encoder, folder = saved
    tasks = ("cola", "sts-b", "mrpc", "qqp", "mnli", "rte")
    result = write_submission(
        encoder, [folder / name for name in tasks], folder / "glue", tmp_path, archive=True
    )
    names = {"CoLA", "STS-B", "MRPC", "QQP", "MNLI-m", "MNLI-mm", "AX", "RTE"}
    assert {path.stem for path in tmp_path.glob("*.tsv")} == names
    assert result.missing == ("SST-2.tsv", "QNLI.tsv", "WNLI.tsv")
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert {name[:-4] for name in archive.namelist()} == names
    for name in ("MNLI-m", "MNLI-mm", "AX"):
        assert set(predictions(tmp_path / f"{name}.tsv")) <= set(GLUE["mnli"].labels)
    assert set(predictions(tmp_path / "RTE.tsv")) <= set(GLUE["rte"].labels)
    values = predictions(tmp_path / "STS-B.tsv")
    assert all(0.0 <= float(value) <= 5.0 for value in values)
    # QQP's empty question is answered too.
    assert [len(predictions(tmp_path / f"{n}.tsv")) for n in ("QQP", "CoLA", "MRPC")] == [2, 3, 1]


def test_predictions_are_the_engines_in_the_files_order(saved, tmp_path):
    encoder, folder = saved
    write_submission(encoder, [folder / "cola"], folder / "glue", tmp_path, batch_size=2)
    texts = read_test(TEST_SETS["CoLA"], folder / "glue")
    assert texts[1] == 'the "tree sleeps'
    output = Engine(encoder, [load_pack(folder / "cola", encoder)])(texts)["cola"]
    expected = [str(GLUE["cola"].labels.index(label)) for label in output.labels]
    assert predictions(tmp_path / "CoLA.tsv") == expected


def test_parquet_tests(saved, tmp_path):
    pandas = pytest.importorskip("pandas")
    (tmp_path / "mnli").mkdir()
    frame = pandas.DataFrame({"premise": ["a"], "hypothesis": ["b"], "label": [-1], "idx": [0]})
    frame.to_parquet(tmp_path / "mnli" / "test_matched-00000-of-00001.parquet")
    assert read_test(TEST_SETS["MNLI-m"], tmp_path) == [("a", "b")]


def test_bad_input_is_refused_before_anything_is_written(saved, tmp_path):
    encoder, folder = saved
    out = tmp_path / "out"

    def write(*packs, glue_dir=folder / "glue"):
        write_submission(encoder, packs, glue_dir, out)

    with pytest.raises(LetsError, match=r"SST-2 not found"):
        write(folder / "cola", folder / "sst-2")
    with pytest.raises(LetsError, match="cola must have one pack, got two"):
        write(folder / "cola", folder / "cola")
    other = make_task(encoder, Policy("ppf", "pff"), name="rte", labels=("no", "yes"))
    save_pack(tmp_path / "rte", other, encoder)
    with pytest.raises(LetsError, match=r"must be of GLUE's rte .*got no, yes"):
        write(tmp_path / "rte")
    stranger = make_task(encoder, Policy("ppf", "pff"), name="topics")
    save_pack(tmp_path / "topics", stranger, encoder)
    with pytest.raises(LetsError, match="task must be one of cola"):
        write(tmp_path / "topics")
    for text, message in (
        ("index\ttext\n0\ta\n", "column 'sentence' not found"),
        ("index\tsentence\n0\ta\n1\n", r"line 3: must have 2 fields"),
    ):
        (tmp_path / "CoLA").mkdir(exist_ok=True)
        (tmp_path / "CoLA" / "test.tsv").write_text(text)
        with pytest.raises(LetsError, match=message):
            write(folder / "cola", glue_dir=tmp_path)
    assert not out.exists()


def test_the_verb(saved, tmp_path):
    _, folder = saved
    arguments = ["glue-submission", "--encoder", folder / "encoder", "--glue-dir", folder / "glue"]
    arguments += ["--pack", folder / "rte", "--output-dir", tmp_path]
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["files"] == [{"file": "RTE.tsv", "rows": 1, "official_rows": 3000}]
    shown = CliRunner().invoke(app, list(map(str, arguments))).stdout
    assert "RTE.tsv: 1 rows, GLUE's test has 3000" in shown
    assert "missing for a complete submission: CoLA.tsv, " in shown
