import base64

import numpy as np
import pytest

from remerge.outcomes import pack, pack_taken, unpack, unpack_taken


@pytest.mark.parametrize("metric", ["accuracy", "choice", "choice_by_length"])
@pytest.mark.parametrize("n", [1, 7, 8, 200, 201])
def test_right_and_wrong_are_bits(n: int, metric: str) -> None:
    right = np.random.default_rng(n).random(n) < 0.7
    text = pack(right.tolist(), metric)
    assert unpack(text, metric, n).tolist() == right.astype(float).tolist()
    assert len(base64.b64decode(text)) == -(-n // 8)
    # The first example is the highest bit of the first byte.
    assert base64.b64decode(text)[0] >> 7 == right[0]


def test_200_examples_take_36_letters() -> None:
    assert len(pack([1.0] * 200, "accuracy")) == 36


def test_rouge_is_kept_to_three_digits() -> None:
    values = np.random.default_rng(0).random(50)
    assert unpack(pack(values.tolist(), "rougeL"), "rougeL", 50) == pytest.approx(values, abs=2.5e-4)


@pytest.mark.parametrize("options", [2, 3, 4, 7, 8, 300])
def test_options_taken_have_as_many_bits_as_they_need(options: int) -> None:
    places = [options, *np.random.default_rng(options).integers(0, options, 40).tolist(), 0]
    text = pack_taken(places, options)
    assert unpack_taken(text, options, len(places)) == places
    assert len(base64.b64decode(text)) == -(-len(places) * options.bit_length() // 8)


def test_the_first_option_taken_is_in_the_highest_bits() -> None:
    assert base64.b64decode(pack_taken([3, 1], 4)) == bytes([0b011_001_00])
