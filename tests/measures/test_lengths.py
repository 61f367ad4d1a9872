"""How long prompts are, against the tokens that are there; each family's own way of cutting."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig, LlamaConfig

from remerge.__main__ import main
from remerge.families import Family, family
from remerge.measures.lengths import lengths
from remerge.miniature.vocabulary import tokenizer

LIMIT = 8
KINDS = {"llama": "llama", "t5": "t5", "deberta": "deberta-v2"}
FAMILIES = {"causal_lm": ("llama", 0, 2), "seq2seq": ("t5", 1, 0), "classifier": ("deberta", 2, 0)}
"""Words; the tokens beside a prompt's words; those of the answer ``yes`` where it shares the row."""

REPEATS = range(1, 8)
"""So often stand two words before the colon."""


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    made: str = request.param
    return made


@pytest.fixture
def reader(name: str, tmp_path: Path) -> Family:
    """A family that reads `LIMIT` tokens; its tokenizer and configuration alone."""
    architecture = FAMILIES[name][0]
    words = tokenizer(architecture)
    words.model_max_length = LIMIT
    words.save_pretrained(tmp_path)
    config = AutoConfig.for_model(KINDS[architecture], vocab_size=len(words), decoder_start_token_id=0)
    config.save_pretrained(tmp_path)
    return family(name, tmp_path)


def test_prompts_that_are_cut_are_counted(name: str, reader: Family) -> None:
    _, beside, answer = FAMILIES[name]
    asked = [("the cat " * k + ":", "yes" if reader.speaks else 0) for k in REPEATS]
    found = lengths(reader, asked, reader.examples("", asked))
    whole = [2 * k + 1 + beside for k in REPEATS]
    cut = sum(tokens + answer > LIMIT for tokens in whole)
    assert (found.n, found.median, found.longest, found.cut) == (7, whole[3], whole[-1], cut)
    assert found.remarks("test") == [
        f"{cut} of 7 test prompts are longer than the model reads and are truncated, "
        f"the longest has {whole[-1]} tokens"
    ]


def test_nothing_is_said_where_none_is(reader: Family) -> None:
    asked = [("the cat :", "yes" if reader.speaks else 0)]
    found = lengths(reader, asked, reader.examples("", asked))
    assert found.cut == 0 and found.remarks("train") == []


def test_the_check_tells_them_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    words = tokenizer("llama")
    words.model_max_length = LIMIT
    words.save_pretrained(tmp_path / "base")
    LlamaConfig(vocab_size=len(words)).save_pretrained(tmp_path / "base")
    (tmp_path / "data").mkdir()
    for split, count in (("train", 2), ("validation", 1), ("test", 3)):
        rows = [{"text": f"the cat {'the cat ' * k}", "label": k % 2} for k in range(2 * count)]
        (tmp_path / f"data/{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    asked = {"source": str(tmp_path / "data"), "prompt": "{text} :", "answers": ["no", "yes"]}
    raw = {
        "benchmark": "long",
        "base": {"source": str(tmp_path / "base")},
        "tasks": {"a": asked, "b": asked},
        "merge": {"variants": ["average"]},
    }
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(raw))
    assert main(["check", str(tmp_path / "long.yaml")]) == 0
    said = capsys.readouterr().out
    longer = "are longer than the model reads and are truncated, the longest has 13 tokens"
    assert f"tasks.a: 4 of 6 test prompts {longer}\n" in said
