"""The mean of the code's length against an encoder that codes random rows, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from sim.hw.run_length import coded_row_bytes


def encoded_bytes(row: np.ndarray) -> int:
    """A row as pairs of (zeros before, word), three to 64 bits; zeros at the end are implied."""
    pairs, run = 0, 0
    for word in row[: np.flatnonzero(row)[-1] + 1] if row.any() else []:
        if word == 0 and run < 31:
            run += 1
        else:  # a word, or the 32nd zero as a word of its own
            pairs, run = pairs + 1, 0
    return 8 * max(1, -(-pairs // 3))


@pytest.mark.parametrize(
    ("words", "density"), [(13, 0.275), (14, 0.12), (56, 0.4), (224, 0.52), (224, 0.05), (600, 0.02), (30, 0.6)]
)
def test_mean_length_is_that_of_an_encoder(words: int, density: float) -> None:
    random = np.random.default_rng(words)
    rows = random.random((1500, words)) < density
    coded = np.mean([encoded_bytes(row) for row in rows])
    assert float(coded_row_bytes(words, density)) == pytest.approx(coded, rel=0.025)


def test_example_by_hand() -> None:
    # 32 pairs, one more to fill the last word: 11 words of 64 bits.
    assert float(coded_row_bytes(64, 0.5)) == pytest.approx(88, abs=1e-6)


def test_a_dense_row_is_not_coded() -> None:
    assert coded_row_bytes(np.array([5, 224]), 1.0).tolist() == [10.0, 448.0]
    # 5 + 16 bits a word and one bit to spare: it pays below 16 x 3 / 64 of the words.
    long = np.array(1 << 20)
    assert coded_row_bytes(long, 0.76) == 2 * long
    assert coded_row_bytes(long, 0.74) < 2 * long
