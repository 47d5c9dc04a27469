"""Micro-batches, frozen layers and precise batch norm through the command line, to the end."""

import pytest

from efficientnet_tpu.errors import UserError


@pytest.mark.slow
def test_a_fine_tuning_run_continues_and_evaluates_the_same(tf, shapes, trained, tiny_recipe, tmp_path, capsys):
    from efficientnet_tpu import cli

    command = [
        "main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", *tiny_recipe, "--freeze=stages:2",
        "--gradient_accumulation_steps=2", "--bn_mode=recalibrate", "--epochs_per_eval=1", f"--init_from={trained}",
        "--layer_lr_decay=0.8",
    ]  # fmt: skip
    stems = []
    for epochs in (2, 4):
        cli.main([*command, f"--train_epochs={epochs}"])
        reader = tf.train.load_checkpoint(f"{tmp_path}/run/checkpoints")
        kernels = [name for name, shape in reader.get_variable_to_shape_map().items() if shape == [3, 3, 3, 16]]
        stems.append({name: reader.get_tensor(name) for name in kernels})
    first, second = stems
    assert len(first) == 2  # the model's and the average's, and no slots
    for name, kernel in first.items():
        assert (kernel == second[name]).all()
    printed = capsys.readouterr().out
    assert "in 2 micro-batches" in printed
    assert "(--freeze=stages:2)" in printed
    assert "continuing from step 6" in printed
    *_, trained = [line for line in printed.splitlines() if line.startswith("-- validation")]
    cli.main(["main.py", "evaluate", f"--model_dir={tmp_path}/run"])
    [evaluated] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("validation:")]
    # The statistics measured anew are in the checkpoint.
    assert trained.split("loss")[1].split()[0] == evaluated.split("loss")[1].split()[0]


@pytest.mark.slow
def test_precise_batch_norm_comes_before_every_evaluation(shapes, tiny_recipe, tmp_path, monkeypatch):
    from efficientnet_tpu import cli
    from efficientnet_tpu.training import precise_batch_norm

    measured, make = [], precise_batch_norm.make_statistics_update

    def make_counting(strategy, models):
        models = list(models)
        update = make(strategy, models)
        return lambda batches: measured.append(len(models)) or update(batches)

    monkeypatch.setattr(precise_batch_norm, "make_statistics_update", make_counting)
    command = ["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", *tiny_recipe]
    cli.main([*command, "--bn_mode=recalibrate", "--epochs_per_eval=1", "--train_epochs=2"])
    assert measured == [2, 2]  # the average and the weights, twice


@pytest.mark.slow
def test_batch_norm_chosen_at_the_start_stays(shapes, trained, tiny_recipe, tmp_path, capsys, monkeypatch):
    """For few images frozen; the run goes on as it began, though then there would be enough."""
    from efficientnet_tpu import cli
    from efficientnet_tpu.run import run_record
    from efficientnet_tpu.training import fine_tuning

    command = [
        "main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", *tiny_recipe, f"--init_from={trained}",
        "--bn_mode=auto", "--optimizer=momentum", "--base_learning_rate=1e-3",
    ]  # fmt: skip
    cli.main([*command, "--train_epochs=5"])
    line = "batch norm: frozen statistics, because 42 training images are fewer than 5,000; --bn_mode=train to change"
    assert line in capsys.readouterr().out
    assert run_record.load(f"{tmp_path}/run").config.train.bn_mode == "frozen"
    monkeypatch.setattr(fine_tuning, "FEW_IMAGES", 0)
    monkeypatch.setattr(fine_tuning, "steps_to_renew_statistics", lambda momentum: 1)
    cli.main([*command, "--train_epochs=7"])
    printed = capsys.readouterr().out
    assert "because" not in printed
    assert "(--bn_mode=frozen)" in printed


@pytest.mark.parametrize("flag", ["--gradient_accumulation_steps=3", "--freeze=stages:8", "--freeze=half"])
def test_what_cannot_be_is_refused_before_the_data_are_opened(tf, tmp_path, monkeypatch, tiny_recipe, flag):
    from efficientnet_tpu import cli, run_setup

    monkeypatch.setattr(run_setup, "open_data", None)
    with pytest.raises(UserError, match=f"{flag}: "):
        cli.main(["main.py", f"--data_dir={tmp_path}", f"--model_dir={tmp_path}/run", *tiny_recipe, flag])


@pytest.mark.parametrize("flag", ["--freeze=stages:2", "--bn_mode=frozen"])
def test_random_weights_are_not_frozen(shapes, tiny_recipe, tmp_path, flag):
    from efficientnet_tpu import cli

    with pytest.raises(UserError, match=f"{flag}: there are no trained weights to keep.*--init_from"):
        cli.main(["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", *tiny_recipe, flag])
