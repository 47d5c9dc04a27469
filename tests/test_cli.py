"""The command line: what is typed reaches the command, and what is wrong is said at once."""

import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import efficientnet_tpu
from efficientnet_tpu import cli
from efficientnet_tpu.commands.table import COMMANDS, ONE_RUN, takes
from efficientnet_tpu.config.config import OPTIONS, Config, sections, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.output_streams import OUTPUT_LOST
from efficientnet_tpu.models.architecture import VARIANTS

ROOT = Path(__file__).parent.parent


@pytest.fixture
def calls(monkeypatch):
    """Commands replaced by recorders; the list of (command, config, arguments) they were called with."""
    recorded = []

    def recorder(name):
        return lambda config, arguments: recorded.append((name, config, list(arguments)))

    for name, command in COMMANDS.items():
        recording = dataclasses.replace(
            command, run=recorder(name), required=(), stored_config="unused", needs_tensorflow=False, checks=()
        )
        monkeypatch.setitem(COMMANDS, name, recording)
    return recorded


def run(*arguments):
    cli.main(["main.py", *arguments])


def program(*arguments):
    """main.py in a process of its own."""
    return subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def error_of(*arguments):
    """The message of the UserError that a command line raises."""
    with pytest.raises(UserError) as error:
        run(*arguments)
    return str(error.value)


def test_flags_without_a_command_train(calls):
    run("--seed=0")
    assert calls == [("train_and_eval", Config(), [])]


def test_nothing_at_all_shows_the_commands_a_newcomer_wants(calls, capsys):
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    text = capsys.readouterr().out
    examples = [line.split()[2:] for line in text.splitlines() if line.startswith("  python main.py ")]
    assert len(examples) == 5
    for example in examples:
        run(*example)
    assert {name for name, _, _ in calls} == {"train_and_eval", "evaluate", "predict", "export", "check-data"}
    assert "python main.py --help " in text
    assert calls != []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_reached(calls, name):
    arguments = ["photo.jpg"] if COMMANDS[name].arguments else []
    run(name, *arguments)
    config = with_options(Config(), {"model_dir": "photo.jpg"} if COMMANDS[name].arguments == ONE_RUN else {})
    assert calls == [(name, config, arguments)]


def test_flags_stand_before_and_after_words(calls):
    run("--model_dir=/runs/b0", "predict", "a.jpg", "--top_k", "3", "b.jpg", "--format=json")
    [(name, config, arguments)] = calls
    assert (name, arguments) == ("predict", ["a.jpg", "b.jpg"])
    assert (config.run.model_dir, config.output.top_k, config.output.format) == ("/runs/b0", 3, "json")


def test_after_two_dashes_everything_is_a_word(calls):
    run("predict", "--top_k=3", "--", "--photo.jpg")
    [(_, config, arguments)] = calls
    assert arguments == ["--photo.jpg"]
    assert config.output.top_k == 3


def test_kinds_of_flags(calls):
    run("--nohorizontal_flip", "--train_epochs=0.5", "--seed=7", "--width_coefficient=1.1", "--tpu=local")
    [(_, config, _)] = calls
    assert config.data.horizontal_flip is False
    assert config.train.train_epochs == 0.5
    assert config.run.seed == 7
    assert config.model.width_coefficient == 1.1
    assert config.model.depth_coefficient is None
    assert config.hardware.tpu == "local"


def test_the_last_of_a_repeated_flag_wins(calls):
    run("--seed=1", "--seed=2")
    assert calls[0][1].run.seed == 2


def test_parsing_leaves_nothing_behind(calls):
    run("--seed=1")
    run("train_and_eval")
    assert [config.run.seed for _, config, _ in calls] == [1, 0]


def test_flagfile(calls, tmp_path):
    base = tmp_path / "base.flags"
    base.write_text("# A recipe.\n\n--model=efficientnet-b1\n--train_batch_size=32\n")
    recipe = tmp_path / "recipe.flags"
    recipe.write_text(f"--flagfile={base}\n--train_batch_size=64\n")
    run(f"--flagfile={recipe}", "--seed=5")
    run(f"--flagfile={recipe}", "--train_batch_size=128")
    assert [config.model.model for _, config, _ in calls] == ["efficientnet-b1"] * 2
    assert [config.train.train_batch_size for _, config, _ in calls] == [64, 128]
    assert calls[0][1].run.seed == 5


def test_a_flagfile_as_windows_editors_write_it(calls, tmp_path):
    """Of a byte order mark alone a flag, a comment and the name of another file were not known."""
    for name, text in {
        "flag": "--seed=7\r\n--model=efficientnet-b1\r\n",
        "comment": "# A recipe.\r\n--seed=7\r\n--model=efficientnet-b1\r\n",
        "file": f"--flagfile={tmp_path}/flag.flags\r\n",
    }.items():
        (tmp_path / f"{name}.flags").write_text(text, encoding="utf-8-sig", newline="")
        run(f"--flagfile={tmp_path}/{name}.flags")
    assert [(config.run.seed, config.model.model) for _, config, _ in calls] == [(7, "efficientnet-b1")] * 3
    (tmp_path / "wide.flags").write_text("--seed=7\n", encoding="utf-16")
    assert "wide.flags: is UTF-16" in error_of(f"--flagfile={tmp_path}/wide.flags")


@pytest.mark.parametrize(
    "flag", ["--" + "s" * 100_000, "--" + "[" * 3000 + "=1", "-" + "-x" * 2000, "--" + "\x1b" * 99]
)
def test_flags_of_any_length_are_refused_in_one_line(flag):
    message = error_of(flag)
    assert "no such flag" in message
    assert len(message) < 500
    assert "\x1b" not in message


def test_flag_files_that_name_one_another_have_an_end(tmp_path):
    for number in range(1200):
        (tmp_path / f"{number}.flags").write_text(f"--flagfile={tmp_path}/{number + 1}.flags\n")
    assert "th of files that name one another" in error_of(f"--flagfile={tmp_path}/0.flags")


def test_a_flagfile_that_leads_back_to_itself(tmp_path):
    for name, other in ("ab", "ba"):
        (tmp_path / f"{name}.flags").write_text(f"--flagfile={tmp_path}/{other}.flags\n")
    assert "a.flags: leads back to itself" in error_of(f"--flagfile={tmp_path}/a.flags")


def test_flagfile_without_a_name():
    assert error_of("--seed=1", "--flagfile").startswith("--flagfile: names no file.")


def test_missing_flagfile():
    message = error_of("--flagfile=nowhere.flags")
    assert message.startswith("--flagfile=nowhere.flags: no such file or recipe.")


def test_a_typing_error_in_a_flagfile(tmp_path):
    recipe = tmp_path / "recipe.flags"
    recipe.write_text("--train_batchsize=64\n")
    assert "Did you mean --train_batch_size?" in error_of(f"--flagfile={recipe}")


def test_unknown_command():
    message = error_of("evalute")
    assert message.startswith("evalute: no such command. Did you mean evaluate?")
    assert all(name in message for name in COMMANDS)


def test_unknown_flag():
    assert error_of("--modle_dir=x").startswith("--modle_dir: no such flag. Did you mean --model_dir?")


def test_a_flag_is_not_abbreviated():
    assert error_of("--see=3").startswith("--see: no such flag. Did you mean --seed?")


@pytest.mark.parametrize("command", ["train_and_eval", "models"])
def test_unknown_model(command):
    assert error_of(command, "--model=efficientnet-b9").startswith(
        "--model=efficientnet-b9: no such model. Did you mean efficientnet-b8?"
    )


def test_unknown_choice():
    message = error_of("--optimizer=rmsprp")
    assert message.startswith("--optimizer=rmsprp: ")
    assert all(choice in message for choice in OPTIONS["optimizer"].choices)
    assert message.endswith("Did you mean rmsprop?")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--train_batch_size=abc", "--train_batch_size=abc"),
        ("--train_batch_size=0", "--train_batch_size=0: must be at least 1."),
        ("--train_batch_size=1.5", "--train_batch_size=1.5"),
        ("--train_epochs=nan", "--train_epochs=nan: must be greater than 0."),
        ("--horizontal_flip=maybe", "--horizontal_flip=maybe"),
        ("--nohorizontal_flip=false", "--nohorizontal_flip=false"),
        ("--resolution=8", "--resolution=8: "),
        ("--seed", "--seed"),
    ],
)
def test_bad_value(flag, words):
    assert words in error_of("launch", flag)


def test_words_after_a_command_that_takes_none():
    assert error_of("models", "b0", "b1") == "b0 b1: models takes no words beside its flags."


def test_predict_asks_for_a_model():
    message = error_of("predict", "photo.jpg")
    assert "--model_dir" in message
    assert "--saved_model" in message


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["train_and_eval"], "--model_dir"),
        (["evaluate"], "--model_dir"),
        (["make-tfrecords"], "--output_dir"),
        (["make-tfrecords", "--output_dir=shards"], "--data_dir"),
    ],
)
def test_missing_flag(arguments, flag):
    assert error_of(*arguments).startswith(f"{flag} is missing. ")


def test_every_required_flag_exists():
    for name, command in COMMANDS.items():
        assert set(command.required) <= OPTIONS.keys()
        assert all(takes(name, OPTIONS[flag]) for flag in command.required)
        assert set(command.sections) <= set(sections())


def test_predict_without_images():
    assert "predict [--flag=value ...] IMAGE..." in error_of("predict", "--saved_model=exports/b0")


def flags_in(text):
    return re.findall(r"^  --(\w+)", text, re.MULTILINE)


def test_help_lists_every_command_and_fits_a_screen(capsys):
    run("--help")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(len(line) for line in lines) <= 80
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == list(COMMANDS)
    assert all(len(line.split()) > 2 for line in lines if line.startswith("  "))
    assert flags_in("\n".join(lines)) == []


def test_helpfull_groups_every_flag(capsys):
    run("--helpfull")
    text = capsys.readouterr().out
    assert flags_in(text) == list(OPTIONS)
    position = 0
    for section in sections().values():
        position = text.index(f"\n{section.__doc__}:\n", position)
    assert max(len(line) for line in text.splitlines()) <= 120


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("order", ["after", "before"])
def test_help_on_a_command_shows_its_own_flags(capsys, name, order):
    run(*([name, "--help"] if order == "after" else ["-h", name]))
    text = capsys.readouterr().out
    assert f"usage: python main.py {name} " in text
    assert flags_in(text) == [option.name for option in OPTIONS.values() if takes(name, option)]
    assert max(len(line) for line in text.splitlines()) <= 120


def test_help_says_choices_and_defaults(capsys):
    run("train_and_eval", "--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "(one of rmsprop, momentum, sgd, lars, adamw; default rmsprop)" in words
    assert "(default 0.016)" in words


def test_version(capsys):
    run("--version")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"efficientnet-tpu {efficientnet_tpu.__version__}, tensorflow")
    assert f"keras {importlib.metadata.version('keras')}" in line
    assert line.endswith(f", Python {platform.python_version()}")


def test_models_lists_every_model(capsys):
    run("models")
    text = capsys.readouterr().out
    assert all(f"\n{name} " in text for name in VARIANTS)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--helpfull"],
        ["--version"],
        ["predict", "--help"],
        ["models"],
        ["--train_batch_size=0"],
        ["evalute"],
    ],
    ids=" ".join,
)
def test_answers_without_tensorflow(arguments):
    code = f"""
import runpy, sys
sys.argv = ["main.py", *{arguments!r}]
try:
    runpy.run_path("main.py", run_name="__main__")
finally:
    loaded = {{name.partition(".")[0] for name in sys.modules}}
    print("loaded:", *sorted(loaded & {{"tensorflow", "keras", "tensorflow_datasets", "numpy"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout + done.stderr


@pytest.mark.parametrize(
    "argument", ["--train_batch_size=abc", "--train_batch_size=0", "evalute", "--flagfile=nowhere"]
)
def test_bad_input_exits_with_status_2(argument):
    done = program(argument)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_good_input_exits_with_status_0():
    done = program("models")
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("argument", ["--help", "models"])
def test_a_reader_that_has_seen_enough_is_told_nothing(argument):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "main.py", argument], cwd=ROOT, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == OUTPUT_LOST


def test_the_command_line_overrides_a_flag_file_named_after_it(calls, tmp_path):
    recipe = tmp_path / "recipe.flags"
    recipe.write_text("--model=efficientnet-b1\n--seed=3\n")
    run("--seed=5", f"--flagfile={recipe}")
    run("--seed=5", "--flagfile", str(recipe), "--model=efficientnet-b2")
    assert [(config.model.model, config.run.seed) for _, config, _ in calls] == [
        ("efficientnet-b1", 5),
        ("efficientnet-b2", 5),
    ]


def test_home_directories_are_found(calls, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    run("--model_dir=~/runs/b0", "--data_dir=gs://photos/~")
    run("predict", "~/photo.jpg")
    run("compare-maps", "--runs=~/a,b,~/c", "--picture=~/maps.png", "x.jpg")
    assert calls[0][1].run.model_dir == "/home/ada/runs/b0"
    assert calls[0][1].data.data_dir == "gs://photos/~"
    assert calls[1][2] == ["/home/ada/photo.jpg"]
    assert calls[2][1].output.runs == "/home/ada/a,b,/home/ada/c"
    with pytest.raises(UserError, match=r"--runs=a,s3://b"):
        run("compare-maps", "--runs=a,s3://b", "--picture=maps.png", "x.jpg")


def test_a_flag_has_its_earlier_name_too(calls, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("repeats,kernel_size,strides,expand_ratio,filters\n1,3,1,1,16\n")
    for name in ("stage_table", "baseline"):
        run("models", f"--{name}={table}")
    assert calls[0] == calls[1]
    assert '"filters": "16"' in calls[0][1].model.stage_table


def test_predict_takes_one_model():
    message = error_of("predict", "--model_dir=runs/b0", "--saved_model=exports/b0", "photo.jpg")
    assert message.startswith("predict: name one model")


def test_a_model_may_be_found_by_the_end_of_its_name():
    assert "Did you mean efficientnet-b0?" in error_of("--model=b0", "--model_dir=runs/b0")


def test_a_name_that_the_terminal_cannot_show_is_escaped():
    code = "from efficientnet_tpu import cli; cli.run(['main.py', 'predict', '--no_such_\\u732b=1'])"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("error: --no_such_\\u732b: no such flag")


def test_a_word_leaves_a_number_to_the_program(calls):
    run("--train_batch_size=auto")
    run("--train_batch_size=64", "--train_batch_size=auto")
    run("--train_batch_size=64")
    assert [config.train.train_batch_size for _, config, _ in calls] == [None, None, 64]
    assert "--train_batch_size=automatic: must be a whole number, or auto" in error_of("--train_batch_size=automatic")


def test_messages_tell_a_terminal_nothing_and_nobody_a_password(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["main.py", "models", "--model=\x1b[2J\u202eb0 x://me:word@host"])
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert printed.startswith("error: --model=\\x1b[2J\\u202eb0 x://me:***@host: no such model.")
