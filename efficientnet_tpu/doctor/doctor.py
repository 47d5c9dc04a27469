"""`main.py doctor`: why this machine does not train, or trains worse than it could.

Takes the flags of a training, and looks at what it would need. Without --deep nothing imports TensorFlow.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.doctor import computer, devices, packages, places, surroundings
from efficientnet_tpu.doctor.finding import ERROR, OK, SEVERITIES, WARNING, Finding, failed
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.texts.csv_text import csv_text

# The exit status where something is found with which training fails. Warnings are no failure: 0.
HAS_ERRORS = 1


def doctor(config: Config) -> None:
    """Prints what was found, in the form of --format. Ends the program with status 1 where there is an error."""
    findings = examine(config)
    writers = {"text": text, "csv": csv, "json": as_json, "jsonl": as_json_lines}
    print(writers[config.output.format](findings), end="")
    if any(finding.severity == ERROR for finding in findings):
        sys.exit(HAS_ERRORS)


def examine(config: Config) -> list[Finding]:
    """Looks at this machine; returns the findings, by subject. A check that fails itself is a finding too."""
    findings: list[Finding] = []
    for subject, check in _checks(config).items():
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 - the machine is broken, who knows where
            findings.append(failed(subject, error))
    return findings


def _checks(config: Config) -> dict[str, Callable[[], Iterable[Finding]]]:
    """Returns the checks by subject, in the order of the report."""
    installed = packages.installed()
    machine = devices.Machine(installed.versions)
    encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        packages.SUBJECT: lambda: packages.check_packages(installed),
        devices.SUBJECT: lambda: devices.check_devices(machine, config.hardware),
        computer.SUBJECT: lambda: [
            *computer.check_processor(),
            *computer.check_memory(config, machine.has_accelerator()),
        ],
        places.SUBJECT: lambda: places.check_places(config),
        surroundings.SUBJECT: lambda: [
            *surroundings.check_surroundings(os.environ, sys.getfilesystemencoding(), encoding),
            *surroundings.check_clock(time.time(), surroundings.newest_file_of_the_program()),
            *surroundings.check_settings(tensorflow_startup.settings(), os.environ),
        ],
    }
    if config.doctor.deep:
        checks["TensorFlow"] = lambda: _with_tensorflow(config)
    return checks


def _with_tensorflow(config: Config) -> list[Finding]:
    from efficientnet_tpu.doctor import deep

    return deep.check_tensorflow(config)


def text(findings: Sequence[Finding]) -> str:
    """Returns the findings for people: one paragraph each, and a last line that counts them."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity:<9}{finding.subject}: {finding.found}")
        lines += [f"{'':<9}  {label}{content}" for label, content in _details(finding)]
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in (ERROR, WARNING)}
    summary = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return "\n".join([*lines, "", summary, ""])


def _details(finding: Finding) -> Iterator[tuple[str, str]]:
    if finding.cause:
        yield "", finding.cause
    if finding.command:
        yield "try: ", finding.command


def csv(findings: Sequence[Finding]) -> str:
    """Returns the findings as CSV, a row each."""
    names = ("subject", "severity", "found", "cause", "command")
    return csv_text([names, *([getattr(finding, name) for name in names] for finding in findings)])


def as_json(findings: Sequence[Finding]) -> str:
    """Returns the findings as JSON: "findings", and the worst severity as "severity"."""
    worst = max((finding.severity for finding in findings), key=SEVERITIES.index, default=OK)
    return json.dumps({"severity": worst, "findings": [vars(finding) for finding in findings]}, indent=2) + "\n"


def as_json_lines(findings: Sequence[Finding]) -> str:
    """Returns the findings as JSON, a line each."""
    return "".join(f"{json.dumps(vars(finding))}\n" for finding in findings)
