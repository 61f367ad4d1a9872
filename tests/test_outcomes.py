import base64

import numpy as np
import pytest

from remerge.outcomes import pack, unpack


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
