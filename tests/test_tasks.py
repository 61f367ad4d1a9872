"""Splits from local files in every format, and what is refused."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remerge.config import Task
from remerge.datafiles import columns_of
from remerge.errors import UserError
from remerge.records import Data
from remerge.records.data import Examples, Prompts
from remerge.splits import described, make_splits
from remerge.tasks import fixed_answers, pairs, read_split, shuffled, write_split

ROWS = [{"sentence": f"number {i}", "label": i % 2, "idx": i} for i in range(50)]


def task(folder, **changes):
    given = {
        "source": str(folder),
        "prompt": "odd? {sentence} :",
        "answers": ["even", "odd"],
        "splits": {"train": "train", "validation": "train", "test": "dev"},
        "sizes": {"train": 30, "validation": 5, "test": 7},
    }
    return Task.model_validate(given | changes)


def write(folder, split, ending, rows):
    path = folder / f"{split}{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == ".csv":
        lines = ["sentence,label,idx"] + [f"{r['sentence']},{r['label']},{r['idx']}" for r in rows]
        path.write_text("\n".join(lines) + "\n")
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)


@pytest.fixture(params=[".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def folder(request, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "train", request.param, ROWS[:40])
    write(tmp_path, "dev", request.param, ROWS[40:])
    return tmp_path


def test_splits_are_disjoint_seeded_and_of_the_asked_sizes(folder):
    made = make_splits("parity", task(folder), seed=1).rows
    assert {split: len(rows) for split, rows in made.items()} == {"train": 30, "validation": 5, "test": 7}
    ids = {split: {int(row["idx"]) for row in rows} for split, rows in made.items()}
    assert not ids["train"] & ids["validation"]
    assert ids["test"] <= set(range(40, 50))
    assert make_splits("parity", task(folder), seed=1).rows == made
    assert make_splits("parity", task(folder), seed=2).rows != made


def test_prompts_and_answers(folder):
    row = make_splits("parity", task(folder), seed=1).rows["test"][0]
    assert pairs("here", task(folder), [row], speaks=True) == [
        (f"odd? {row['sentence']} :", ["even", "odd"][int(row["label"])])
    ]


def test_parquet_round_trip_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_split(tmp_path / f"{name}.parquet", ROWS)
    assert read_split(tmp_path / "a.parquet") == ROWS
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:100])
    with pytest.raises(UserError, match="incomplete or damaged"):
        read_split(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "{text} :"}, "no column 'text'"),
        ({"target": "gold"}, "no column 'gold'"),
        ({"answers": ["no", "yes"], "target": "idx"}, "has no answer"),
        ({"splits": {"train": "train", "validation": "train", "test": "exam"}}, "no file exam"),
        ({"sizes": {"train": 30, "validation": 40, "test": 7}}, "nothing left for train"),
        ({"source": "/nowhere"}, "tasks.parity.source: /nowhere: no such folder"),
    ],
)
def test_wrong_data_gets_one_line(tmp_path, monkeypatch, changes, words):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "train", ".jsonl", ROWS[:40])
    write(tmp_path, "dev", ".jsonl", ROWS[40:])
    with pytest.raises(UserError, match=words):
        make_splits("parity", task(tmp_path, **changes), seed=0)


ASKED = [
    {"q": f"number {i}", "choices": {"text": ["even", "odd"], "label": ["A", "B"]}, "key": "AB"[i % 2]}
    for i in range(40)
]


def test_templates_reach_into_columns_and_labels_may_be_words(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split in ("train", "dev"):
        write(tmp_path, split, ".jsonl", ASKED)
    chosen = task(
        tmp_path,
        prompt="{q} ? {choices[text]} :",
        answers=["{choices[text][0]}", "{choices[text][1]}"],
        labels=["A", "B"],
        target="key",
    )
    rows = make_splits("parity", chosen, seed=1).rows["test"]
    assert [r["key"] for r in rows].count("A") in range(1, 7)
    words = ["even" if r["key"] == "A" else "odd" for r in rows]
    prompts = [f"{r['q']} ? even odd :" for r in rows]
    assert pairs("here", chosen, rows, speaks=True) == list(zip(prompts, words, strict=True))
    classes = ["AB".index(r["key"]) for r in rows]
    assert pairs("here", chosen, rows, speaks=False) == list(zip(prompts, classes, strict=True))
    free = chosen.model_copy(update={"answers": [], "labels": None, "target": "it is {choices[text][1]}"})
    assert {answer for _, answer in pairs("here", free, rows, speaks=True)} == {"it is odd"}


def test_a_number_in_a_template_may_be_rounded():
    """STS-B's labels are means, such as 3.799999952316284; numbers of JSON files are texts."""
    asked = Task(source="./x", prompt="{q} of {n[0]:.0f} :", target="{label:.1f}", metric="spearman")
    assert asked.columns == {"q", "n", "label"}
    rows = [{"q": "a", "n": [2.6], "label": 3.799999952316284}, {"q": "b", "n": ["7"], "label": "0.25"}]
    assert pairs("here", asked, rows, speaks=True) == [("a of 3 :", "3.8"), ("b of 7 :", "0.2")]
    for label in ("high", "nan"):
        with pytest.raises(UserError, match=rf"example 1: '{label}' is not a number, as {{…:.1f}} wants"):
            pairs("here", asked, [rows[0] | {"label": label}, rows[1]], speaks=True)
    for field in ("n:d", "n!r", "n:.1e", "n:>5"):
        with pytest.raises(
            ValueError, match=r"is not a column with keys in brackets\): write .*{number:.1f}"
        ):
            Task(source="./x", prompt=f"{{{field}}}")


def test_examples_may_label_their_answers_each_in_its_own_way():
    """ARC has 1 to 4 beside A to D."""
    options = [f"{{choices[text][{k}]}}" for k in range(2)]
    named = [f"{{choices[label][{k}]}}" for k in range(2)]
    asked = Task(source="./x", prompt="{q} :", answers=options, labels=named, target="key", metric="choice")
    assert asked.columns == {"q", "choices", "key"}
    text = ["even", "odd"]
    rows = [
        {"q": "a", "choices": {"text": text, "label": ["A", "B"]}, "key": "B"},
        {"q": "b", "choices": {"text": text, "label": ["1", "2"]}, "key": "1"},
        {"q": "c", "choices": {"text": text, "label": [1, 2]}, "key": 2},
    ]
    assert pairs("here", asked, rows, speaks=True) == [("a :", "odd"), ("b :", "even"), ("c :", "odd")]
    wrong = {"B": r"label 'B' has no answer, only 1, 2 have", None: r"nothing in key"}
    for key, words in wrong.items():
        with pytest.raises(UserError, match=words):
            pairs("here", asked, [{**rows[1], "key": key}], speaks=True)
    for label, words in ((["A", "A"], "two answers have the label 'A'"), (["A"], r"choices\[label\]\[1\]")):
        with pytest.raises(UserError, match=words):
            row = {"q": "d", "choices": {"text": text, "label": label}, "key": "A"}
            pairs("here", asked, [row], speaks=True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("{choices[0]}", r"{choices\[0\]} takes '0' from a text, '\[\"even\", \"odd\"\]', not from a list"),
        ("{more[text][0]}", r"{more\[text\]\[0\]} takes '0' from a text, 'even', not from a list"),
    ],
)
def test_a_key_takes_no_letter_of_a_text(tmp_path, answer, words):
    """As of a list that a CSV file has as its text."""
    row = {"q": "x", "choices": '["even", "odd"]', "more": {"text": "even"}, "key": 0}
    for split in ("train", "dev"):
        write(tmp_path, split, ".jsonl", [row] * 40)
    asked = task(tmp_path, prompt="{q} :", answers=[answer, "none"], target="key", metric="choice")
    with pytest.raises(UserError, match=f"example [0-9]+: {words}: see prompt, answers"):
        make_splits("parity", asked, seed=0)


def test_texts_and_numbers_of_json_stay_as_they_are_written(tmp_path):
    """Arrow's reader makes times of dates, and 7.0 of 7 beside 4.5."""
    values = [[f"2020-01-{i + 1:02}", 7 if i % 2 else 4.5, "x" if i % 2 else i] for i in range(20)]
    rows = [{"sentence": date, "label": number, "more": {"mixed": [mixed]}} for date, number, mixed in values]
    lines = "".join(f"{json.dumps(row)}\r\n\r\n" for row in rows)
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (tmp_path / "dev.json").write_text(json.dumps(rows, indent=2))
    sizes = {"train": 9, "validation": 2, "test": 20}
    asked = task(tmp_path, prompt="{sentence} {more[mixed][0]}", answers=[], sizes=sizes)
    made = make_splits("parity", asked, seed=1).rows
    written = {(f"{date} {mixed}", str(number)) for date, number, mixed in values}
    assert set(pairs("here", asked, made["test"], speaks=True)) == written
    assert set(pairs("here", asked, made["train"], speaks=True)) < written
    write_split(tmp_path / "kept.parquet", made["test"])
    assert read_split(tmp_path / "kept.parquet") == made["test"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"sentence": "a", "label": 1', r"train\.jsonl: incomplete or damaged in line 2 \("),
        ('["a", 1]', r"train\.jsonl: contains something else than objects: write one example per line"),
        ('{"sentence": "a", "label": ["b"]}', r"train\.jsonl: column 'label' cannot be kept \("),
        (r'{"sentence": "\ud83d", "label": 1}', r"train\.jsonl: column 'sentence' cannot be kept \("),
        ('{"sentence": "a", "label": -1}', "has nothing in label but -1: fill it, or leave"),
        ('{"sentence": NaN, "label": 1}', "has nothing in sentence: fill it, or leave such examples out"),
    ],
)
def test_a_line_that_is_no_example_gets_one_line(tmp_path, line, words):
    (tmp_path / "train.jsonl").write_text('{"sentence": "a", "label": 1, "more": {}}\n' + f"{line}\n" * 40)
    write(tmp_path, "dev", ".jsonl", ROWS)
    with pytest.raises(UserError, match=words):
        make_splits("parity", task(tmp_path), seed=0)


def test_an_example_may_lack_a_column_that_others_have(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"sentence": "a"}\n\n{"sentence": "b", "label": 1}\n')
    assert columns_of(tmp_path, "train") == ["sentence", "label"]
    for unknown in ("[1]\n", "3\n", "", '{"sentence": "a"}\n{\n'):
        (tmp_path / "train.jsonl").write_text(unknown)
        assert columns_of(tmp_path, "train") is None


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_file_that_takes_the_place_and_time_of_another_is_read_anew(tmp_path, monkeypatch, ending):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "dev", ".jsonl", ROWS)
    for text in ("before", "after"):
        write(tmp_path, "train", ending, [{**row, "sentence": text} for row in ROWS])
        os.utime(tmp_path / f"train{ending}", (1e9, 1e9))
        made = make_splits("parity", task(tmp_path), seed=0).rows["train"]
        assert {row["sentence"] for row in made} == {text}


def test_examples_without_a_label_can_be_left_out(tmp_path):
    labels = [[0, 1, -1, 1.0, None, -1.0][i % 6] for i in range(60)]
    write(tmp_path, "train", ".jsonl", [{"sentence": "x", "label": label} for label in labels])
    asked = task(tmp_path, missing="drop", splits=dict.fromkeys(("train", "validation", "test"), "train"))
    made = make_splits("parity", asked, seed=0)
    assert made.dropped == 30
    assert {row["label"] for rows in made.rows.values() for row in rows} == {"0", "1", "1.0"}
    declared = task(tmp_path, labels=[-1, 1])
    assert pairs("here", declared, [{"sentence": "x", "label": -1}], speaks=True) == [("odd? x :", "even")]


def test_what_is_missing_on_the_way_to_a_field_is_missing(tmp_path):
    told = [{"text": ["yes"]}, {"text": []}, {"text": None}, None]
    write(tmp_path, "train", ".parquet", [{"sentence": "x", "found": told[i % 4]} for i in range(20)])
    splits = dict.fromkeys(("train", "validation", "test"), "train")
    sizes = dict.fromkeys(splits, 1)
    asked = task(tmp_path, answers=[], target="{found[text][0]}", splits=splits, sizes=sizes)
    with pytest.raises(UserError, match=r"has nothing in found\[text\]\[0\]: fill it, or leave"):
        make_splits("parity", asked.model_copy(update={"sizes": task(tmp_path).sizes}), seed=0)
    assert make_splits("parity", asked.model_copy(update={"missing": "drop"}), seed=0).dropped == 15


def test_stratified_splits_keep_the_shares_of_the_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"sentence": f"number {i}", "label": int(i % 4 == 0), "idx": i} for i in range(200)]
    write(tmp_path, "train", ".jsonl", rows)
    write(tmp_path, "dev", ".jsonl", ROWS)
    splits = {"train": "train", "validation": "train", "test": "dev", "stratify": True}
    made = make_splits(
        "parity", task(tmp_path, splits=splits, sizes={"train": 150, "validation": 40}), seed=1
    ).rows
    counts = {split: sum(int(row["label"]) for row in made[split]) for split in ("train", "validation")}
    assert counts["validation"] == 10
    assert counts["train"] in (37, 38)
    assert not {r["idx"] for r in made["train"]} & {r["idx"] for r in made["validation"]}


def test_shares_of_labels_of_which_one_is_missing(tmp_path):
    write(tmp_path, "train", ".jsonl", [{"sentence": "x", "label": i % 2 if i else None} for i in range(60)])
    splits = {"train": "train", "validation": "train", "test": "train", "stratify": True}
    sizes = {"train": 20, "validation": 10, "test": 10}
    with pytest.raises(
        UserError, match=r"splits\.stratify: example 1 has nothing in label: fill it, or leave"
    ):
        make_splits("parity", task(tmp_path, splits=splits, sizes=sizes), seed=0)


@pytest.mark.parametrize("as_text", [False, True])
def test_images_that_are_elsewhere_are_refused(tmp_path, as_text):
    """Nobody would notice that they were replaced."""
    (tmp_path / "x.png").write_bytes(b"x")
    path = str(tmp_path / "x.png")
    line = json.dumps({"image": path if as_text else {"path": path}, "label": 0})
    folder = tmp_path / "local"
    folder.mkdir()
    for split in ("train", "dev"):
        (folder / f"{split}.jsonl").write_text(60 * f"{line}\n")
    shown = task(tmp_path, prompt=None, image="image", source=str(folder))
    with pytest.raises(UserError, match=r"local: names images by path, as .*x\.png: save it with the images"):
        make_splits("cola", shown, 0)


def test_stand_ins_have_their_words_in_another_order_and_the_same_answer(tmp_path):
    words = [f"w{i}" for i in range(30)]
    row = {"q": " ".join(words), "more": {"text": [" ".join(words), "w"]}, "gold": {"text": " ".join(words)}}
    asked = task(tmp_path, prompt="{q} {more[text]}", answers=[], target="{gold[text]}")
    made = shuffled(row | {"n": 1}, asked, "0/cola/1")
    assert made["gold"] == row["gold"] and made["n"] == 1
    for text, own in ((made["q"], row["q"]), (made["more"]["text"][0], row["q"])):
        assert text != own and sorted(text.split()) == sorted(words)


def test_answers_with_fields_are_not_fixed(tmp_path):
    assert fixed_answers(task(tmp_path, answers=["none", "{{x}}"])) == ["none", "{x}"]
    assert fixed_answers(task(tmp_path, answers=["none", "{sentence}"])) == []


@pytest.mark.parametrize("metric", ["rouge1", "accuracy"])
def test_rouge_is_not_asked_of_letters_that_it_leaves_out(tmp_path, metric):
    """Else the right answer in Russian would be worth 0."""
    rows = [{**row, "label": ["кот спит", "a cat", "дом"][i % 3]} for i, row in enumerate(ROWS)]
    for split in ("train", "dev"):
        write(tmp_path, split, ".jsonl", rows)
    asked = task(tmp_path, answers=[], metric=metric)
    if metric == "accuracy":
        make_splits("parity", asked, seed=0)
    else:
        with pytest.raises(UserError, match="ROUGE counts only letters from a to z, and most are others"):
            make_splits("parity", asked, seed=0)


def test_a_last_number_is_not_asked_of_answers_without_one(tmp_path):
    """Else the right answer would be worth 0, as would be every other."""
    for split in ("train", "dev"):
        write(
            tmp_path, split, ".jsonl", [{**row, "label": f"some, so #### {i}"} for i, row in enumerate(ROWS)]
        )
    make_splits("parity", task(tmp_path, answers=[], metric="last_number"), seed=0)
    write(tmp_path, "dev", ".jsonl", [{**row, "label": "none at all"} for row in ROWS])
    with pytest.raises(UserError, match="an answer without a number, 'none at all': use another metric"):
        make_splits("parity", task(tmp_path, answers=[], metric="last_number"), seed=0)


def test_images_are_kept_as_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split in ("train", "dev"):
        rows = [{"image": bytes([i, 1, 2]), "label": i % 2} for i in range(45)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    shown = task(tmp_path, prompt=None, image="image")
    rows = make_splits("parity", shown, seed=1).rows["test"]
    assert all(row["image"][0] % 2 == row["label"] and row["image"][1:] == b"\x01\x02" for row in rows)
    write_split(tmp_path / "kept.parquet", rows)
    kept = pairs("here", shown, read_split(tmp_path / "kept.parquet"), speaks=False)
    assert kept == [(row["image"], row["label"]) for row in rows]


def test_an_image_of_nothing_is_missing(tmp_path):
    """As pandas writes an image that is missing."""
    rows = [{"image": {"bytes": b"x" if i else None, "path": None}, "label": i % 2} for i in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    every = dict.fromkeys(("train", "validation", "test"), "train")
    sizes = {"train": 4, "validation": 2, "test": 2}
    shown = task(tmp_path, prompt=None, image="image", splits=every, sizes=sizes, missing="drop")
    made = make_splits("parity", shown, seed=1)
    assert made.dropped == 1 and all(row["image"] == b"x" for rows in made.rows.values() for row in rows)


def test_the_miniature_world_has_no_other_tasks(tmp_path):
    with pytest.raises(UserError, match=r"tasks\.colla: unknown miniature task 'colla', did you mean cola\?"):
        make_splits("colla", task(tmp_path, source="miniature"), seed=0)


def test_what_is_found_in_the_examples_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    train = [{"sentence": f"number {i // 2}", "label": 0, "idx": i} for i in range(10)]
    write(tmp_path, "train", ".jsonl", train)
    write(tmp_path, "dev", ".jsonl", [*train[:3], *ROWS[20:24]])
    splits = {"train": "train", "validation": "train", "test": "dev"}
    asked = task(tmp_path, splits=splits, sizes={"train": 10, "validation": 2, "test": 7})
    found = described("parity", asked, make_splits("parity", asked, seed=1))
    test = found.splits["test"]
    assert (test.n, test.repeated, test.seen, test.lacking) == (7, 1, 3, [])
    assert found.splits["train"].lacking == ["odd"]
    assert found.splits["train"].n == 8 and found.splits["train"].repeated >= 3
    said = found.remarks()
    assert "3 of 7 test examples also occur in train or validation" in said
    assert "no train example has the label odd" in said
    found.write(tmp_path, task="parity")
    assert Data.read(tmp_path, task="parity").model_dump(exclude={"seal"}) == found.model_dump(
        exclude={"seal"}
    )


def test_clean_data_are_not_remarked_on(tmp_path):
    asked = task(tmp_path, source="miniature", prompt="{sentence}", answers=["no", "yes"])
    assert described("cola", asked, make_splits("cola", asked, seed=0)).remarks() == []


def test_one_example_is_spoken_of_as_one() -> None:
    test = Examples(n=9, repeated=1, seen=1, lacking=[])
    assert Data(task="cola", dropped=1, splits={"test": test}).remarks() == [
        "1 example with missing values left out",
        "1 of 9 test examples also occurs in train or validation",
        "1 of 9 test examples repeats another",
    ]
    assert Prompts(n=9, median=3, longest=8, cut=1).remarks("test") == [
        "1 of 9 test prompts is longer than the model reads and is truncated, the longest has 8 tokens"
    ]
