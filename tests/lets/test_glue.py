import pytest
from lets.errors import LetsError
from lets.glue import GLUE, glue_task, load_glue, load_mismatched

# Headers of the official files (CoLA has none) over rows made up in their form.
TSV = {
    "CoLA": "gj04\t1\t\tFine sentence.\ngj04\t0\t*\tWrong sentence are.\n",
    "SST-2": "sentence\tlabel\nso good \t1\nso \"bad \t0\n",
    "MRPC": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tA one\tOne a\n"
    "0\t9\t10\tA \"two\tThree\nbroken\n",
    "STS-B": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\t"
    "sentence1\tsentence2\tscore\n"
    "0\tg\tf\t2012\t1\tnone\tnone\tA plane\tAn air plane\t5.000\n"
    "1\tg\tf\t2012\t2\tnone\tnone\tA man\tA dog\t0.250\n",
    "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tHow?\tWhy?\t0\n"
    "4\t5\t6\tWho?\tWho is?\t1\n7\tcut off\n",
    "MNLI": "index\tpairID\tsentence1\tsentence2\tlabel1\tgold_label\n"
    "0\ta\tIt rains.\tIt is wet.\tneutral\tentailment\n"
    "1\tb\tIt rains.\tIt is dry.\tx\tcontradiction\n",
    "QNLI": "index\tquestion\tsentence\tlabel\n"
    "0\tWho?\tHe.\tentailment\n1\tWho?\tNo.\tnot_entailment\n",
    "RTE": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n1\tC.\tD.\tnot_entailment\n",
    "WNLI": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n1\tC.\tD.\t0\n",
}  # fmt: skip
DEV = {"MNLI": "dev_matched.tsv"}


@pytest.mark.parametrize("folder", TSV)
def test_official_files(folder, tmp_path):
    (tmp_path / folder).mkdir()
    for name in ("train.tsv", DEV.get(folder, "dev.tsv")):
        (tmp_path / folder / name).write_text(TSV[folder], encoding="utf-8")
    data = load_glue(folder, tmp_path)
    assert len(data.train) == len(data.dev) == 2
    task = GLUE[folder.lower()]
    assert data.is_pair == (task.text_pair is not None)
    assert (data.labels, data.metric) == (task.labels, task.metric)
    expected = {
        "CoLA": [1, 0], "SST-2": [1, 0], "MRPC": [1, 0], "STS-B": [5.0, 0.25], "QQP": [0, 1],
        "MNLI": [0, 2], "QNLI": [0, 1], "RTE": [0, 1], "WNLI": [1, 0],
    }[folder]  # fmt: skip
    assert data.targets(data.train) == expected
    assert "\t" not in str(data.train)


def test_mrpc_of_the_original_release(tmp_path):
    (tmp_path / "MRPC").mkdir()
    for name in ("msr_paraphrase_train.txt", "dev.tsv"):
        (tmp_path / "MRPC" / name).write_text(TSV["MRPC"], encoding="utf-8")
    assert load_glue("mrpc", tmp_path).train[0].text_pair == "One a"


@pytest.mark.parametrize("name", ["cola", "mnli", "sts-b"])
def test_parquet(name, tmp_path):
    pandas = pytest.importorskip("pandas")
    task = GLUE[name]
    columns = {task.text: ["one", "two"]}
    if task.text_pair:
        columns[task.text_pair] = ["three", "four"]
    columns["label"] = [1.5, 4.0] if task.regression else [1, 0]
    columns["idx"] = [0, 1]
    folder = tmp_path / name.replace("-", "")
    folder.mkdir()
    frame = pandas.DataFrame(columns)
    frame.to_parquet(folder / "train-00000-of-00001.parquet")
    frame.to_parquet(folder / "validation_matched.parquet")
    data = load_glue(name, tmp_path)
    assert data.targets(data.dev) == columns["label"]
    assert data.train[0].text == "one"
    assert data.train[0].text_pair == ("three" if task.text_pair else None)


@pytest.mark.parametrize("spelling", ["SST-2", "sst2", "sst_2"])
def test_spellings(spelling):
    assert glue_task(spelling)[0] == "sst-2"


def test_files_by_name_and_held_out_rows(tmp_path):
    (tmp_path / "RTE").mkdir()
    text = "sentence1\tsentence2\tlabel\n"
    text += "".join(f"A{i}\tB\t{['entailment', 'not_entailment'][i % 2]}\n" for i in range(20))
    (tmp_path / "RTE" / "train_part.tsv").write_text(text)
    with pytest.raises(LetsError, match=r"train\.tsv .*the folder holds train_part\.tsv"):
        load_glue("rte", tmp_path)
    data = load_glue("rte", tmp_path, "train_part.tsv", "train", dev_share=0.2)
    assert (len(data.train), len(data.dev)) == (16, 4)
    with pytest.raises(LetsError, match=r"other\.tsv: file not found"):
        load_glue("rte", tmp_path, "other.tsv")


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(LetsError, match="glue: task must be one of cola, sst-2"):
        load_glue("squad", tmp_path)
    with pytest.raises(LetsError, match="absent not found"):
        load_glue("cola", tmp_path / "absent")
    with pytest.raises(LetsError, match="CoLA not found"):
        load_glue("cola", tmp_path)
    (tmp_path / "RTE").mkdir()
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / "RTE" / name).write_text("sentence1\tsentence2\tlabel\nA.\tB.\tmaybe\n")
    with pytest.raises(LetsError, match=r"train\.tsv, line 2.*entailment, got 'mayb"):
        load_glue("rte", tmp_path)


def test_both_dev_sets_of_mnli(tmp_path):
    folder = tmp_path / "MNLI"
    folder.mkdir()
    for name in ("train.tsv", "dev_matched.tsv"):
        (folder / name).write_text(TSV["MNLI"])
    assert load_mismatched(tmp_path) is None
    (folder / "dev_mismatched.tsv").write_text(TSV["MNLI"].replace("dry", "cold"))
    assert [row.text_pair for row in load_mismatched(tmp_path)] == ["It is wet.", "It is cold."]
