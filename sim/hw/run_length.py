"""Run-length coding of sparse activations: how many bytes a row with some zeros takes off the chip.

A non-zero word is coded with the number of zeros before it (up to 31, in 5 bits); three such pairs, 3 x (5 + 16) bits,
fill a word of 64 bits with one bit to spare. A longer run takes a pair whose value is zero for each further 32 zeros.
Every row of a tensor begins with a new word, so that rows can be fetched by themselves; zeros at its end are implied.

Source: Chen et al., "Eyeriss", JSSC 2017, for the format. That rows begin anew is ours: it is what the DRAM accesses of
its sparse layers ask for (docs/validation.md).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

VALUE_BITS = 16
LONGEST_RUN = 31
PAIRS_PER_WORD = 3
CODED_WORD_BYTES = 8

FEW_VALUES = 20
"""Mean number of values in a row up to which their distribution is summed."""

NEGLIGIBLE = 1e-9


def coded_row_bytes(words: npt.ArrayLike, density: float) -> Float64:
    """Mean bytes of a row of `words` 16-bit words, each of which is not zero with probability `density`; never more
    than uncoded, for a dense tensor is better not coded. The shape is that of `words`.

    64 words at 0.5: 32 pairs, on average one more to fill the last word of three, so 11 words: 88 B of 128.
    """
    sizes, where = np.unique(np.asarray(words, np.int64), return_inverse=True)
    coded = np.array([_mean_words(size, density) for size in sizes.tolist()], np.float64) * CODED_WORD_BYTES
    shortest = np.minimum(coded, sizes * VALUE_BITS / 8)
    return np.asarray(shortest[where].reshape(np.shape(words)), np.float64)


@lru_cache(maxsize=4096)
def _mean_words(words: int, density: float) -> float:
    """Mean number of 64-bit words of a row, at least one.

    Values: the mean of max(1, ceil(K / 3)) over K ~ Binomial(words, d), which for large K is (words d + 1) / 3. A run
    of 32 k zeros before a value, d (1 - d)^(32 k) at each of words - 32 k places, takes k further pairs.
    """
    long, zeros, k = 0.0, (1.0 - density) ** (LONGEST_RUN + 1), 1
    while words > k * (LONGEST_RUN + 1) and zeros**k > NEGLIGIBLE:
        long += density * zeros**k * (words - k * (LONGEST_RUN + 1))
        k += 1
    if words * density > FEW_VALUES or density == 1.0:
        return max(1.0, (words * density + long + 1.0) / PAIRS_PER_WORD)
    mean, probability = 0.0, (1.0 - density) ** words
    for values in range(min(words, 4 * FEW_VALUES) + 1):
        mean += probability * max(1, -(-values // PAIRS_PER_WORD))
        probability *= (words - values) / (values + 1) * density / (1.0 - density)
    return mean + long / PAIRS_PER_WORD
