"""The command line: parsing and help. Flags come from `config.OPTIONS`, commands from `commands.table`.

Nothing here needs TensorFlow, so that `--help`, `models` and typing errors answer at once.
"""

import itertools
import os
import platform
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags

import efficientnet_tpu
from efficientnet_tpu.commands.run_command import run_command
from efficientnet_tpu.commands.table import COMMANDS, DEFAULT_COMMAND, takes
from efficientnet_tpu.config.config import OPTIONS, RUN_SECTIONS, sections
from efficientnet_tpu.config.flag_suggestions import suggested_flag
from efficientnet_tpu.config.option import Option
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.hardware import output_streams, preemption
from efficientnet_tpu.installation import installed_version, missing_package_text, program, recipe_file, recipes
from efficientnet_tpu.storage.temporary_directory import own_temporary_files
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.storage.write_errors import cannot_be_written, is_of_the_disk
from efficientnet_tpu.texts import known_errors
from efficientnet_tpu.texts.printable import escaped, shortened, shown
from efficientnet_tpu.texts.printable_output import printable_output

TITLE = "Trains, evaluates, exports and uses EfficientNets on TPU, GPU or CPU."
# Flags that ask for text in place of a command's work.
INFORMATION = {
    "help": "List the commands, or the flags of one.",
    "helpfull": "List all flags.",
    "version": "Print the version.",
}

_DEEPEST = 20  # flag files that name one another
_LONGEST_FLAG = 60  # characters of a name
_LONGEST_ERROR = 1000  # characters of a message of absl's
_FLAG_FILE = ("--flagfile=", "-flagfile=")


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the program. Ends it with a status other than 0 where something failed, and a message."""
    with output_streams.guarded() as lost, printable_output():
        status = _run(sys.argv if argv is None else argv)
        if not status and (reason := output_streams.lost_output().get("stdout")):
            print(f"warning: stdout could not be written: {reason}. All else was done.", file=sys.stderr)
    status = status or (output_streams.OUTPUT_LOST if lost else 0)
    if status:
        sys.exit(status)


def _run(argv: Sequence[str]) -> int:
    """Runs a command line and returns the exit status. Prints what the user can mend, on stderr."""
    status = 0
    try:
        preemption.stop_with_parent()
        with own_temporary_files():
            main(argv)
        sys.stdout.flush()  # what cannot be written shows here, not when Python exits
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except UserError as error:
        print(f"error: {shortened(_with_known_cause(error))}", file=sys.stderr)
        status = error.exit_status
    except preemption.StoppedError as stopped:
        print(stopped, file=sys.stderr)
        status = stopped.exit_status
    except output_streams.OutputLostError as lost:
        if not isinstance(lost.error, BrokenPipeError):  # the reader, `head` say, has seen enough
            print(f"error: stdout: cannot be written: {lost.error.strerror}.", file=sys.stderr)
        status = output_streams.OUTPUT_LOST
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = 130
    except Exception as error:
        shown_error = _explained(error)
        if shown_error is None:
            raise
        print(f"error: {shortened(str(shown_error))}", file=sys.stderr)
        status = shown_error.exit_status
    return status


def _explained(error: Exception) -> UserError | None:
    """Returns what to print in place of an error that nobody expected, None for one of which nothing is known."""
    if isinstance(error, OSError) and is_of_the_disk(error):
        return cannot_be_written(error.filename or "a file", error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "efficientnet_tpu").startswith("efficientnet_tpu"):
        return UserError(missing_package_text(str(error.name)))
    return known_errors.explained(error)


def _with_known_cause(error: UserError) -> str:
    """Returns a message, with the cause and the command where it came from an error that is known."""
    if error.__cause__ is None or isinstance(error, known_errors.ExplainedError):
        return str(error)
    return "\n".join(filter(None, [str(error), known_errors.explanation(known_errors.message_chain(error.__cause__))]))


def main(argv: Sequence[str]) -> None:
    """Runs a command line; argv[0] is the program's name. Raises UserError on bad input."""
    if len(argv) < 2:
        print(first_lesson())
        sys.exit(2)  # no command was run: a script whose flags came out empty must not go on
    line = parse(argv[1:])
    if line.information == "version":
        print(version_text())
    elif line.information == "helpfull":
        print(all_flags_text())
    elif line.information:
        print(command_text(line.command) if line.is_command_named else commands_text())
    else:
        run_command(line.command, line.options, line.typed, line.arguments)


@dataclass(frozen=True)
class CommandLine:
    """A command line, parsed.

    options: the given values by flag name; typed: the names of those that are not from a flag file.
    arguments: the words after the command.
    information: the flag of INFORMATION that was given, if any.
    """

    command: str
    is_command_named: bool
    options: dict[str, Any]
    typed: frozenset[str]
    arguments: list[str]
    information: str


def parse(arguments: Sequence[str]) -> CommandLine:
    """Parses what follows the program's name. Raises UserError."""
    files, others = _split_flag_files(arguments)
    for word in itertools.takewhile(lambda word: word != "--", (*files, *others)):
        name = word.partition("=")[0]
        if name.startswith("-") and len(name) > _LONGEST_FLAG:  # absl's search for what was meant is recursive
            raise UserError(f"{shown(name, _LONGEST_FLAG)}: no such flag. `{program()} --helpfull` lists them.")
    try:
        # What stands on the command line overrides what stands in a file, wherever the file is named.
        flag_values = _define_flags()
        words = flag_values(["main.py", *files, *others])[1:]
        typed_values = _define_flags()
        typed_values(["main.py", *others])
    except flags.UnrecognizedFlagError as error:
        closest = suggested_flag(error.flagname, (*OPTIONS, *INFORMATION, "flagfile"))
        raise UserError(
            f"--{escaped(error.flagname)}: no such flag.{closest} `{program()} --helpfull` lists them."
        ) from error
    except (flags.Error, ValueError) as error:  # absl: ValueError for --noflag=value
        raise UserError(shortened(escaped(str(error)), _LONGEST_ERROR)) from error
    if words and words[0] not in COMMANDS:
        raise UserError(
            f"{shown(words[0])}: no such command.{nearest(words[0], COMMANDS)} Commands: {', '.join(COMMANDS)}."
        )
    return CommandLine(
        command=words[0] if words else DEFAULT_COMMAND,
        is_command_named=bool(words),
        options={name: flag_values[name].value for name in OPTIONS if flag_values[name].present},
        typed=frozenset(name for name in OPTIONS if typed_values[name].present),
        arguments=words[1:],
        information=next((name for name in INFORMATION if flag_values[name].value), ""),
    )


class _OrNone(flags.ArgumentParser):
    """A parser of a number, or of a word for None."""

    def __init__(self, number: flags.ArgumentParser, none_word: str) -> None:
        self._number, self._none_word = number, none_word
        self.syntactic_help = f"{number.syntactic_help}, or {none_word}"

    def parse(self, argument: Any) -> Any:
        """Returns the number, or None for the word. Raises ValueError for another word."""
        try:
            return None if argument == self._none_word else self._number.parse(argument)
        except (TypeError, ValueError) as error:
            raise ValueError(f"must be a whole number, or {self._none_word}") from error

    def flag_type(self) -> str:
        """Returns the word that absl has for the type."""
        return self._number.flag_type()


def _define_flags() -> flags.FlagValues:
    """Returns absl flags of every option, in a registry of their own: parsing leaves no global state."""
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # flags may follow words
    define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for name, option in OPTIONS.items():
        if option.none_word:
            parser = _OrNone(flags.IntegerParser(), option.none_word)
            flags.DEFINE(parser, name, option.default, option.help, flag_values=flag_values)
        else:
            define[option.kinds[0]](name, option.default, option.help, flag_values=flag_values)
        if option.alias:
            flags.DEFINE_alias(option.alias, name, flag_values=flag_values)
    for name, text in INFORMATION.items():
        flags.DEFINE_bool(name, False, text, short_name="h" if name == "help" else None, flag_values=flag_values)
    return flag_values


def _split_flag_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags of the flag files that the arguments name, and the other arguments."""
    files: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif argument in ("--flagfile", "-flagfile"):
            name = next(rest, "")
            if not name:
                raise UserError("--flagfile: names no file. Give --flagfile=FILE, or the name of a recipe.")
            files += _flags_of_file(name)
        elif argument.startswith(_FLAG_FILE):
            files += _flags_of_file(argument.partition("=")[2])
        else:
            others.append(argument)
    return files, others


def _flags_of_file(name: str, around: tuple[str, ...] = ()) -> list[str]:
    """Returns the flags in a file, one a line, without comments; a file may name others. around: the files that led
    here. absl's own reader keeps a byte order mark, with which no flag is known.
    """
    path = _flag_file(name)
    named = f"--flagfile={shown(name)}"
    if path in around:
        raise UserError(f"{named}: leads back to itself, by {escaped(', '.join(around))}.")
    if len(around) > _DEEPEST:
        raise UserError(f"{named}: is the {len(around) + 1}th of files that name one another. Put them together.")
    found: list[str] = []
    for line in map(str.strip, read_text(path, named).split("\n")):
        if line.startswith(_FLAG_FILE):
            found += _flags_of_file(line.partition("=")[2], (*around, path))
        elif line and not line.startswith(("#", "//")):
            found.append(line)
    return found


def _flag_file(name: str) -> str:
    """Returns the file that --flagfile=NAME means: a file, or a recipe by its name. Raises UserError for neither."""
    path = recipe_file(os.path.expanduser(name))
    if os.path.exists(path):
        return path
    known = [recipe for recipe, file in recipes().items() if file.endswith(".flags")]
    closest = nearest(name, known)
    raise UserError(f"--flagfile={shown(name)}: no such file or recipe.{closest} The recipes are {', '.join(known)}.")


def first_lesson() -> str:
    """Returns what `main.py` alone prints: an example of each command that a newcomer wants."""
    lines = [TITLE, ""]
    for name, command in COMMANDS.items():
        if command.example:
            words = [program(), *([name] if name != DEFAULT_COMMAND else []), command.example]
            lines += [f"  {' '.join(words)}", f"      {_summary(name)}"]
    more = f"{program()} --help lists all commands, COMMAND --help the flags of one."
    return "\n".join([*lines, "", more])


def commands_text() -> str:
    """Returns what `main.py --help` prints: one line for each command."""
    lines = [TITLE, "", f"usage: {program()} [COMMAND] [--flag=value ...] [--flagfile=FILE]"]
    for group, members in itertools.groupby(COMMANDS, lambda name: COMMANDS[name].group):
        lines += ["", f"{group}:", *(f"  {name:<16}{_summary(name)}" for name in members)]
    more = f"{program()} COMMAND --help lists the flags of a command, --helpfull all."
    return "\n".join([*lines, "", more])


def command_text(name: str) -> str:
    """Returns what `main.py COMMAND --help` prints: the command's flags, by section."""
    command = COMMANDS[name]
    usage = " ".join(filter(None, [program(), name, "[--flag=value ...]", command.arguments]))
    description = " ".join((command.run.__doc__ or "").split())
    shown = [option for option in OPTIONS.values() if takes(name, option)]
    return "\n".join([f"usage: {usage}", "", *textwrap.wrap(description, 120), *_flags_by_section(shown)])


def all_flags_text() -> str:
    """Returns what `main.py --helpfull` prints: every flag, by section."""
    return "\n".join([commands_text(), *_flags_by_section(OPTIONS.values())])


def version_text() -> str:
    """Returns what `main.py --version` prints, without importing TensorFlow."""
    installed = {name: installed_version(name) for name in ("tensorflow", "tensorflow-tpu", "keras")}
    libraries = [f"{name} {version}" for name, version in installed.items() if version]
    program_version = f"efficientnet-tpu {efficientnet_tpu.__version__}"
    return ", ".join([program_version, *libraries, f"Python {platform.python_version()}"])


def _summary(name: str) -> str:
    return (COMMANDS[name].run.__doc__ or "").partition("\n")[0].rstrip(".")


def _flags_by_section(shown: Iterable[Option]) -> list[str]:
    """Returns lines for options that come in the order of their sections."""
    lines: list[str] = []
    for section, options in itertools.groupby(shown, lambda option: option.section):
        lines += ["", f"{sections()[section].__doc__}:", *itertools.chain(*map(_flag_help, options))]
    return lines


def _flag_help(option: Option, width: int = 120) -> list[str]:
    notes = [", ".join(option.commands)] if option.section not in RUN_SECTIONS else []
    notes += [f"also --{option.alias}"] if option.alias else []
    notes += [f"one of {', '.join(option.choices)}"] if option.choices else []
    notes += [f"of {', '.join(option.parts)}"] if option.parts else []
    if option.default not in (None, ""):
        notes.append(f"default {option.default}")
    # A help text is data, and cannot know how the program was started.
    text = option.help.replace("main.py", program()) + (f" ({'; '.join(notes)})" if notes else "")
    head = f"  --{option.name}"
    body = textwrap.wrap(text, width - 28)
    first = [f"{head:<28}{body[0]}"] if len(head) < 27 else [head, " " * 28 + body[0]]
    return first + [" " * 28 + line for line in body[1:]]


if __name__ == "__main__":
    run()
