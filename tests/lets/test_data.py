import builtins
import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lets.data import load_task, read_texts
from lets.errors import LetsError
from lets.task_data import TaskRow


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_quotes_breaks_and_a_byte_order_mark(tmp_path):
    text = '\ufefftext,label,id\n"one, ""two""\nthree",b,1\nfour,a,2\n'
    data = load_task("t", write(tmp_path / "t.csv", text), tmp_path / "t.csv")
    assert data.train == [TaskRow('one, "two"\nthree', None, "b"), TaskRow("four", None, "a")]
    assert data.labels == ("a", "b")
    assert data.targets(data.train) == [1, 0]
    assert data.texts(data.train) == ['one, "two"\nthree', "four"]
    assert (data.num_labels, data.is_pair, data.metric) == (2, False, "accuracy")


def test_tsv_takes_quotes_as_they_are(tmp_path):
    text = 'label\ttext\nx\t"open quote\ny\tit\'s 5" long\n'
    data = load_task("t", write(tmp_path / "t.tsv", text), tmp_path / "t.tsv")
    assert [row.text for row in data.train] == ['"open quote', "it's 5\" long"]


def test_jsonl_pairs(tmp_path):
    lines = [{"q": "who", "a": "me", "y": 1}, {"q": "what", "a": "that", "y": 0}]
    file = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    data = load_task(
        "t", file, file, text_column="q", text_pair_column="a", label_column="y", metric="f1"
    )
    assert data.labels == ("0", "1")
    assert data.texts(data.train) == [("who", "me"), ("what", "that")]
    assert data.is_pair


def test_parquet_and_regression(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": [0.5, 2, 5]})
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_task("t", tmp_path / "t.parquet", tmp_path / "t.parquet", problem_type="regression")
    assert data.targets(data.train) == [0.5, 2.0, 5.0]
    assert (data.labels, data.num_labels, data.metric) == ((), 1, "spearman")


def test_numeric_labels_sort_by_value_and_floats_are_ids(tmp_path):
    file = write(tmp_path / "t.csv", "text,label\n" + "".join(f"t{i},{i}\n" for i in range(11)))
    assert load_task("t", file, file).labels == tuple(map(str, range(11)))
    file = write(tmp_path / "t.jsonl", '{"text": "a", "label": 1.0}\n{"text": "b", "label": "0"}')
    assert load_task("t", file, file).labels == ("0", "1")


def test_booleans_are_named_as_in_json(tmp_path):
    lines = '{"text": "a", "label": true}\n{"text": "b", "label": false}\n'
    data = load_task("t", write(tmp_path / "t.jsonl", lines), dev_file=tmp_path / "t.jsonl")
    assert data.labels == ("false", "true")
    assert data.targets(data.train) == [1, 0]
    named = load_task("t", tmp_path / "t.jsonl", tmp_path / "t.jsonl", labels=("true", "false"))
    assert named.targets(named.train) == [0, 1]


def test_given_label_order_is_kept(tmp_path):
    file = write(tmp_path / "t.csv", "text,label\na,no\nb,yes\n")
    assert load_task("t", file, file, labels=("yes", "no")).targets(
        load_task("t", file, file).train
    ) == [1, 0]


def test_read_texts(tmp_path):
    file = write(tmp_path / "t.csv", "a,b\nx,y\n")
    assert read_texts(file, "a") == ["x"]
    assert read_texts(file, "a", "b") == [("x", "y")]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "got an empty file"),
        ("text,label\n", {}, "at least one row"),
        ("text,text\na,b\n", {}, "column names must be different, got text twice"),
        ("text,label\na\n", {}, r"line 2: must have 2 fields \(text, label\), got 1"),
        ("text,label\na,b,c\n", {}, "line 2: must have 2 fields"),
        ("text,class\na,b\n", {}, "column 'label' not found; available: text, class"),
        ("body,label\na,b\n", {}, "column 'text' not found; available: body, label"),
        ("text,label\na,b\n", {"text_pair_column": "pair"}, "column 'pair' not found"),
        ("text,label\na,x\n  ,y\n", {}, "line 3, column text: must be text that is not empty"),
        ("text,label\na,x\nb,\n", {}, "line 3, column label: must be a label, got nothing"),
        ("text,label\na,x\nb,x\n", {}, "labels must be at least two"),
        (
            "text,label\na,x\nb,y\nc,z\n",
            {"labels": ("x", "y")},
            "line 4, column label: label must be one of x, y, got 'z'",
        ),
        ("text,label\na,x\nb,y\n", {"labels": ("x", "y", "x")}, "got x more than once"),
        ("text,label\na,x\nb,y\n", {"labels": ("x", "")}, "label must be one of"),
        (
            "text,label\na,1\nb,high\n",
            {"problem_type": "regression"},
            "line 3, column label: must be a finite number, got 'high'",
        ),
        ("text,label\na,nan\n", {"problem_type": "regression"}, "finite number, got 'nan'"),
        ("text,label\na,1\nb,\n", {"problem_type": "regression"}, "finite number, got ''"),
        ("text,label\na,1\n", {"problem_type": "regression", "labels": ("a",)}, "empty for reg"),
        ("text,label\na,x\nb,y\n", {"problem_type": "ranking"}, "problem_type must be one of"),
        ("text,label\na,x\nb,y\n", {"metric": "pearson"}, "for classification, got 'pearson'"),
        ('text,label\n"a,x\n', {}, "line 2: unexpected end of data"),
    ],
)
def test_bad_csv_is_refused(text, options, message, tmp_path):
    file = write(tmp_path / "t.csv", text)
    with pytest.raises(LetsError, match=message) as error:
        load_task("t", file, file, **options)
    assert "t.csv" in str(error.value) or str(error.value).startswith(("t:", "metric:"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: must be a JSON object, got list"),
        ('{"text": "b"}', "line 2, column label: must be a label, got nothing"),
        ('{"text": null, "label": "y"}', "line 2, column text: .* got nothing"),
        ('{"text": 3, "label": "y"}', "line 2, column text: must be text .*got 3"),
        ('{"text": "b", "label": ["y"]}', r"must be a label, got \['y'\]"),
        ('{"text": "b", "label": 0.5}', "must be a label, got 0.5"),
        ('{"text": "b", "label": NaN}', "must be a label, got nothing"),
        ('{"text": "b", "label": Infinity}', "must be a label, got inf"),
    ],
)
def test_bad_jsonl_is_refused(line, message, tmp_path):
    file = write(tmp_path / "t.jsonl", '{"text": "a", "label": "x"}\n' + line + "\n")
    with pytest.raises(LetsError, match=message):
        load_task("t", file, file)


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(LetsError, match=r"absent\.csv: file not found"):
        load_task("t", tmp_path / "absent.csv")
    with pytest.raises(LetsError, match=r"must end in one of \.csv, .*got '\.xlsx'"):
        load_task("t", tmp_path / "t.xlsx")
    (tmp_path / "t.csv").write_bytes(b"text,label\n\xff\xfe,x\n")
    with pytest.raises(LetsError, match="must be UTF-8"):
        load_task("t", tmp_path / "t.csv")
    write(tmp_path / "t.parquet", "PAR1 but not really")
    with pytest.raises(LetsError, match="not a Parquet file"):
        load_task("t", tmp_path / "t.parquet")


def test_missing_parquet_package_names_the_extra(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    write(tmp_path / "t.parquet", "")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LetsError, match=r"needs pyarrow.*pip install 'lets-ext\[train\]'"):
        load_task("t", tmp_path / "t.parquet")


def test_dev_label_outside_the_train_labels(tmp_path):
    train = write(tmp_path / "train.csv", "text,label\na,x\nb,y\n")
    dev = write(tmp_path / "dev.csv", "text,label\nc,z\n")
    with pytest.raises(LetsError, match=r"dev\.csv, line 2.*one of x, y, got 'z'"):
        load_task("t", train, dev)


def test_hold_out_through_load_task(tmp_path):
    file = write(tmp_path / "t.csv", "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(40)))
    data = load_task("t", file, dev_share=0.25, seed=3)
    assert (len(data.train), len(data.dev)) == (30, 10)
    for share in (0.0, 1.0):
        with pytest.raises(LetsError, match="dev_share must be between 0 and 1"):
            load_task("t", file, dev_share=share)
    file = write(tmp_path / "t.csv", "text,label\na,0\nb,1\n")
    with pytest.raises(LetsError, match="too few different texts"):
        load_task("t", file)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@given(st.binary(max_size=60) | st.text("text,label\t\n\r\"'{}[]:0 \0é").map(str.encode))
def test_any_bytes_are_read_or_refused(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"t{suffix}"
        file.write_bytes(content)
        with contextlib.suppress(LetsError):
            data = load_task("t", file, file)
            assert len(data.train) == len(data.dev) > 0


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_task(suffix, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ['a "b"', "c,\nd", "é"], "label": [1, 0, 1]})
    file = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        frame.to_csv(file, index=False)
    elif suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file)
    data = load_task("t", file, file)
    assert data.train == [
        TaskRow('a "b"', None, "1"), TaskRow("c,\nd", None, "0"), TaskRow("é", None, "1")
    ]  # fmt: skip
