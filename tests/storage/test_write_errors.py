"""What keeps a file from being written is said in one line."""

import os

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import write_errors


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/out/a.123.tmp; No space left on device", "No space left on device"),
        ("[Errno 28] Can't write data (file write failed: errno = 28, error message = 'No space left on device', "
         "buf = 0x5, total write[0]: 4096)", "No space left on device"),
        ("/out/a; Read-only file system", "Read-only file system"),
        ("Error executing an HTTP request: HTTP response code 403\n\t when writing gs://a/b", "Error executing an HTTP "
         "request: HTTP response code 403"),
    ],
)  # fmt: skip
def test_reasons(tf, text, reason):
    assert write_errors.write_error_reason(OSError(text)) == reason
    assert write_errors.write_error_reason(tf.errors.ResourceExhaustedError(None, None, text)) == reason


def test_a_write_that_fails_is_the_users_to_mend(tf):
    refused = pytest.raises(
        UserError, match=r"^--report=x: cannot be written: No space left on device\. Free space, or name another\.$"
    )
    with refused, write_errors.explained_write_errors("--report=x", "Name another"), open("/dev/full", "w") as file:
        file.write("content")
    with refused, write_errors.explained_write_errors("--report=x", "Name another"):
        tf.io.write_file("/dev/full", "content")
    with pytest.raises(ValueError, match="other"), write_errors.explained_write_errors("--report=x"):
        raise ValueError("other")


def test_errors_of_the_disk():
    with pytest.raises(OSError, match="space") as full, open("/dev/full", "w") as file:
        file.write("content")
    assert write_errors.is_of_the_disk(full.value)
    with pytest.raises(OSError, match="directory") as missing:
        os.stat("/nowhere/at/all")
    assert not write_errors.is_of_the_disk(missing.value)
