"""Paths with a scheme: the unknown are refused, and a place that does not answer is named."""

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import remote_path


@pytest.mark.parametrize("path", ["https://example.com/cat.jpg", "s3://bucket/x", "hf://timm/x", "file:///tmp/x"])
def test_unknown_schemes(path):
    scheme = path.partition(":")[0]
    with pytest.raises(UserError, match=f"^--init_from={path}: cannot be reached: {scheme}:// is not read here"):
        remote_path.require_known_scheme(path, f"--init_from={path}")


@pytest.mark.parametrize("path", ["gs://bucket/x", "runs/b0", "/data", "", "C:\\photos", "a://b c/x"[1:], "imagenet"])
def test_paths_that_are_taken(path):
    remote_path.require_known_scheme(path, path)


def test_a_place_that_does_not_answer(tf, monkeypatch):
    def fail(path):
        raise tf.errors.FailedPreconditionError(None, None, "Could not resolve host: a\n\t when reading b")

    monkeypatch.setattr(tf.io.gfile, "exists", fail)
    remote_path.require_reachable("/local", "--model_dir=/local")
    with pytest.raises(UserError) as raised:
        remote_path.require_reachable("gs://bucket/x", "--model_dir=gs://bucket/x")
    assert str(raised.value) == "--model_dir=gs://bucket/x: cannot be reached: Could not resolve host: a."
