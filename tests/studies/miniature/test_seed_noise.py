"""What a few seeds allow to be said, against published quantiles and arithmetic by hand."""

import math

import pytest

from efficientnet_tpu.studies.miniature.seed_noise import Noise, compare, pooled_noise, t_quantile


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (18, 2.1009), (100, 1.984)])
def test_quantiles_of_students_t(freedom, quantile):
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, abs=1e-4)


def test_noise_of_all_networks_together():
    noise = pooled_noise([[0.1, 0.3], [0.5, 0.7, 0.6], [0.9]])
    assert noise.freedom == 3
    assert noise.deviation == pytest.approx(math.sqrt((0.02 + 0.02) / 3))
    assert noise.radius(2, 3) == pytest.approx(3.1824 * noise.deviation * math.sqrt(1 / 2 + 1 / 3), rel=1e-4)


def test_a_difference_is_called_noise_or_not():
    noise = Noise(0.01, 18)  # 95% of a difference of means of three: 2.1009 * 0.01 * sqrt(2/3) = 1.715 points
    clear = compare("compound", [0.72, 0.72, 0.72], "depth", [0.70, 0.70, 0.70], noise)
    assert clear.is_clear
    assert clear.sentence() == (
        "compound minus depth: +2.00 points (95%: +0.28 to +3.72): more than noise, compound is better than depth."
    )
    worse = compare("compound", [0.70] * 3, "depth", [0.72] * 3, noise)
    assert worse.sentence().endswith("depth is better than compound.")
    open_question = compare("compound", [0.71] * 3, "depth", [0.70] * 3, noise)
    assert not open_question.is_clear
    assert "within the noise" in open_question.sentence()


def test_one_seed_says_nothing_of_noise():
    alone = compare("compound", [0.9], "depth", [0.1], pooled_noise([[0.9], [0.1]]))
    assert not alone.is_clear
    assert "one seed each says nothing of noise" in alone.sentence()
