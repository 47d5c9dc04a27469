"""Which checkpoint of a run a command takes, and what it says of the other one."""

import dataclasses
import json

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.run.early_stopping import EarlyStopping


@pytest.fixture
def choose(tf, tmp_path):
    """choose(asked, accuracies, saved_at, **options) -> the choice in a run that was evaluated at steps 10, 20, ..."""
    from efficientnet_tpu.run.chosen_checkpoint import choose_checkpoint

    def write(which, step, evaluations):
        # As Checkpoints writes it, without weights: the names of the files and of this variable.
        state = tf.train.Checkpoint(selection=tf.Variable(json.dumps(evaluations)))
        state.write(str(tmp_path / which / f"ckpt-{step}"))

    def made(asked, accuracies, saved_at=None, earlier=False, **options):
        now, evaluated = EarlyStopping(), {}
        for index, accuracy in enumerate(accuracies, 1):
            now = now.after(10 * index, accuracy)
            evaluated[now.evaluated_step] = dataclasses.asdict(now)
            if earlier:
                del evaluated[now.evaluated_step]["evaluated_accuracy"]
        if evaluated:
            write("best", now.best_step, evaluated[now.best_step])
        write("checkpoints", saved_at or now.evaluated_step, evaluated.get(now.evaluated_step, {}))
        config = with_options(Config(), {"model_dir": str(tmp_path), **options})
        return choose_checkpoint(config, asked)

    return made


BEST_OF_THREE = (
    "best checkpoint, step 20: top-1 90.60% of the validation images, by which it was chosen; the last, step 30: "
    "84.90%; --checkpoint=last takes it"
)
LAST_OF_THREE = (
    "last checkpoint, step 30: top-1 84.90% of the validation images; the best, step 20: 90.60%; --checkpoint=best "
    "takes it"
)


@pytest.mark.parametrize(("asked", "which", "note"), [
    ("auto", "best", BEST_OF_THREE), ("best", "best", BEST_OF_THREE), ("last", "last", LAST_OF_THREE),
])  # fmt: skip
def test_the_best_unless_the_last_is_asked_for_and_both_figures(choose, asked, which, note):
    chosen = choose(asked, [0.5, 0.906, 0.849])
    assert (chosen.which, chosen.note) == (which, note)
    flatters = "\nthe best was chosen by these images: its figure flatters"
    assert chosen.note_on(("validation",)) == note + flatters * (which == "best")
    assert chosen.note_on(("train", "validation")) == note + flatters.replace("by", "by some of") * (which == "best")
    for others in [("test",), ("train",), ()]:
        assert chosen.note_on(others) == note


def test_a_minival_chooses_without_flattering_the_validation(choose):
    chosen = choose("auto", [0.9, 0.8], minival_percent=10)
    assert "step 10: top-1 90.00% of the minival images, by which it was chosen" in chosen.note
    assert chosen.note_on(("validation",)) == chosen.note
    assert chosen.note_on(("minival",)).endswith("its figure flatters")


def test_the_last_may_be_the_best(choose):
    note = "best and last checkpoint, step 20: top-1 60.00% of the validation images"
    assert choose("auto", [0.5, 0.6]).note == note


def test_the_last_may_have_been_saved_between_evaluations(choose):
    chosen = choose("auto", [0.5, 0.4], saved_at=27)
    assert "; the last, step 27; --checkpoint=last" in chosen.note


def test_checkpoints_of_earlier_versions_do_not_say_how_good_the_last_is(choose):
    note = choose("last", [0.5, 0.4], earlier=True).note
    assert note.startswith("last checkpoint, step 20; the best, step 10: 50.00%")


@pytest.mark.parametrize(("saved_at", "note"), [
    (7, "last checkpoint, step 7: there is no best one as long as nothing has been evaluated"), (0, ""),
])  # fmt: skip
def test_without_an_evaluation_it_is_the_last(choose, saved_at, note):
    chosen = choose("auto", [], saved_at=saved_at)
    assert (chosen.which, chosen.note_on(("validation",))) == ("last", note)
    assert choose("best", [], saved_at=saved_at).which == "best"  # for the restoring to refuse


def test_evaluations_that_are_none_leave_the_figure_out(choose, tmp_path, tf, capsys):
    from efficientnet_tpu.run.chosen_checkpoint import choose_checkpoint

    choose("auto", [0.5, 0.4])
    tf.train.Checkpoint(selection=tf.Variable("[1]")).write(str(tmp_path / "checkpoints" / "ckpt-20"))
    note = choose_checkpoint(with_options(Config(), {"model_dir": str(tmp_path)}), "auto").note
    assert note.startswith("best checkpoint, step 10: top-1 50.00%")
    assert "; the last, step 20; --checkpoint=last" in note
    assert f"warning: {tmp_path}/checkpoints/ckpt-20: the evaluations" in capsys.readouterr().err


def test_a_best_that_cannot_be_read_is_not_passed_over_in_silence(choose, tmp_path):
    choose("auto", [0.5, 0.4])
    for file in (tmp_path / "best").iterdir():
        file.write_bytes(b"\0" * 10)
    chosen = choose("auto", [])
    assert chosen.which == "best"
