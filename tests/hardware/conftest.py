"""The strategy that the tests of traced steps share."""

import pytest


@pytest.fixture(scope="module")
def tpu_strategy(tf):
    from tests.support.traced_tpu import make_strategy

    return make_strategy(tf)
