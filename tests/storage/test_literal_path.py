"""Names that TensorFlow would match as patterns lead to what they name."""

import tempfile

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.literal_path import literal_path, require_literal

NAMES = ("[exp 1]", r"a\b", "what?", "all*", "[1", r"[exp 1]\a*b?{c}")


@pytest.mark.parametrize("name", NAMES)
def test_tensorflow_reads_what_it_wrote(tf, tmp_path, name):
    prefix = str(tmp_path / name / name)  # a checkpoint of other programs may be called anything
    tf.train.Checkpoint(value=tf.Variable([1.0, 2.0])).write(prefix)
    with literal_path(prefix) as path:
        stored = tf.train.load_checkpoint(path).get_tensor("value/.ATTRIBUTES/VARIABLE_VALUE")
        found = tf.Variable([0.0, 0.0])
        tf.train.Checkpoint(value=found).read(path).assert_consumed()
    assert stored.tolist() == found.numpy().tolist() == [1.0, 2.0]


def test_a_relative_path_and_no_other_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("[1].index", "[1].data-00000-of-00001", "[1]0.index", "1.index"):
        (tmp_path / name).write_text(name)
    with literal_path("[1]") as path:
        for suffix in (".index", ".data-00000-of-00001"):
            with open(f"{path}{suffix}") as file:
                assert file.read() == f"[1]{suffix}"


def test_other_paths_are_given_back():
    for path in ("runs/b0", "gs://bucket/run", "runs/{a}"):
        with literal_path(path) as given:
            assert given == path


def test_what_cannot_be_linked_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"--model_dir=gs://bucket/\[1\]: has one of the characters"):
        require_literal("gs://bucket/[1]", "--model_dir=gs://bucket/[1]")
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/[job]")
    require_literal("runs/b0", "--model_dir=runs/b0")
    with pytest.raises(UserError, match=r"--model_dir=\[1\]: .* but so does TMPDIR=/scratch/\[job\]"):
        require_literal("[1]", "--model_dir=[1]")
