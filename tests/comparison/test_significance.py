"""p-values against published and exact ones."""

import pytest

from efficientnet_tpu.comparison.significance import mcnemar, two_proportions


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 2**5),
        (1, 5, 2 * (1 + 6) / 2**6),
        (5, 1, 2 * (1 + 6) / 2**6),
        (2, 3, 1.0),  # 2 * 16 / 32
        (4, 12, 0.0768127),  # the binomial distribution of 16: 2 * (1 + 16 + 120 + 560 + 1820) / 65536
    ],
)
def test_mcnemar_is_the_binomial_test(first, second, expected):
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-5)


def test_mcnemar_of_many_images_is_finite():
    assert mcnemar(20_000, 20_500) == pytest.approx(0.013, abs=0.001)
    assert mcnemar(1000, 3000) < 1e-200


def test_two_proportions_is_the_pooled_z_test():
    # 90 and 80 of 100: z = 0.1 / sqrt(0.85 * 0.15 * 0.02) = 1.9803, of which two tails are 0.04767.
    assert two_proportions(0.9, 100, 0.8, 100) == pytest.approx(0.04767, abs=1e-4)
    assert two_proportions(0.5, 10, 0.5, 1000) == 1.0
    assert two_proportions(1.0, 10, 1.0, 10) == 1.0
