import pytest

from tests.support import image_files

GOOD, BAD = image_files.good(), image_files.bad()


@pytest.fixture
def unreadable_reason(tf):
    from efficientnet_tpu.data.decoding.unreadable_reason import unreadable_reason

    return unreadable_reason


@pytest.mark.parametrize("name", BAD)
def test_reason(unreadable_reason, name):
    encoded, reason = BAD[name]
    assert unreadable_reason(encoded) == reason


@pytest.mark.parametrize("name", GOOD)
def test_no_reason_for_a_readable_image(unreadable_reason, name):
    assert unreadable_reason(GOOD[name]) == ""
