"""Scores of an answer in free words against the gold answer, each from 0 to 1."""

import re
import string
from collections import Counter
from decimal import Decimal

NUMBER = re.compile(r"((?<![\w.])[-−][$€£]?)?(\d+(?:,\d{3})*(?:\.\d+)?|(?<![\w.])\.\d+)")
"""A sign and a number, with commas between its thousands; a hyphen behind a word or a number is no sign."""


def exact_match(said: str, gold: str) -> float:
    """1 if the words are the same, without case, punctuation and articles (Rajpurkar et al., 2016, SQuAD)."""
    return float(_words(said) == _words(gold))


def token_f1(said: str, gold: str) -> float:
    """The F-measure of the words in common, as often as both have them (Rajpurkar et al., 2016, SQuAD)."""
    a, b = _words(said), _words(gold)
    common = (Counter(a) & Counter(b)).total()
    return 2 * common / (len(a) + len(b)) if a or b else 1.0


def last_number(said: str, gold: str) -> float:
    """1 if the last numbers are equal (Cobbe et al., 2021, GSM8K)."""
    a, b = number_in(said), number_in(gold)
    return float(a is not None and a == b)


def number_in(text: str) -> Decimal | None:
    """The last number in a text; None without one."""
    found = NUMBER.findall(text)
    if not found:
        return None
    sign, number = found[-1]
    value = Decimal(number.replace(",", ""))
    return value.copy_negate() if sign else value


def _words(text: str) -> list[str]:
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


MEASURES = {"exact_match": exact_match, "token_f1": token_f1, "last_number": last_number}
"""The measures by their names in a configuration."""
