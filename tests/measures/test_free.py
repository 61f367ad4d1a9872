"""Scores of free answers, against definitions written out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remerge.measures.free import MEASURES, exact_match, last_number, number_in, token_f1

WORDS = st.lists(st.sampled_from(["cat", "dog", "house", "42", "runs"]), max_size=5).map(" ".join)


@pytest.mark.parametrize(
    ("said", "gold", "same"),
    [
        ("The Normans.", "normans", 1),
        ("in  the\ncity", "In a city!", 1),
        ("theatre", "atre", 0),  # an article is a word, not letters
        ("U.S.", "us", 1),
        ("café", "cafe", 0),
        ("cat dog", "dog cat", 0),
        ("", "the", 1),
        ("東京", "東京", 1),
    ],
)
def test_exact_match_leaves_out_case_punctuation_and_articles(said: str, gold: str, same: float) -> None:
    assert exact_match(said, gold) == same


@given(WORDS, WORDS)
def test_token_f1_is_the_harmonic_mean_of_precision_and_recall(said: str, gold: str) -> None:
    a, b = said.split(), gold.split()
    most = sum(min(a.count(word), b.count(word)) for word in set(a))
    if not a or not b:
        assert token_f1(said, gold) == (a == b)
    else:
        precision, recall = most / len(a), most / len(b)
        both = precision + recall
        assert token_f1(said, gold) == pytest.approx(2 * precision * recall / both if both else 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 dogs, so 3 * 4 = 12.", "12"),
        ("#### 1,234,567", "1234567"),
        ("-5.50 dollars", "-5.5"),
        ("10-5", "5"),
        ("x=-3", "-3"),
        ("GSM8K", "8"),
        ("1, 2,3", "3"),
        ("12,34", "34"),
        ("7.", "7"),
        ("half, or .5", "0.5"),
        ("$.50", "0.5"),
        ("so it is...5", "5"),
        ("No.5", "5"),
        ("a loss of -$1,200", "-1200"),
        ("−5", "-5"),  # as typesetters write minus
        ("10−5", "5"),
        ("-.25", "-0.25"),
    ],
)
def test_the_last_number_is_found(text: str, number: str) -> None:
    assert last_number(text, number) == 1
    assert last_number(f"{number}0.5", text) == 0


def test_where_no_number_is_said_nothing_is_right() -> None:
    assert number_in("none, not one") is None
    assert last_number("none", "3") == 0


@given(st.text(), st.text())
def test_scores_of_any_texts(said: str, gold: str) -> None:
    for name, measure in MEASURES.items():
        assert 0 <= measure(said, gold) <= 1
        assert measure(said, gold) == measure(gold, said)
        assert measure(said, said) == 1 or (name == "last_number" and number_in(said) is None)
