"""What is written as YAML is read as the same."""

import random

import pytest
import yaml

from efficientnet_tpu.texts.yaml_text import yaml_text

TEXTS = [
    "", " ", "a", "a b", "true", "No", "null", "1", "1.5", "1e3", "0x1f", "2026-12-01", "a: b", "# a", "- a", "a #b",
    "'", '"', "{a}", "[a]", "&a", "*a", "!a", "%a", "@a", "`a`", "|", ">", "$(touch x)", "\\n", "a/b.c:d",
    "caf\u00e9 \U0001f600", "a\tb", "a\nb", "a\nb\n", "a\n\n  b\n", " a\nb\n", "\n", "\na\n", "a\n\n", "~", "=", "<<",
    "on", "y",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_read_as_it_was(text):
    for content in (text, [text], {"a": text}, {text: 1}, [[text], {"b": [text]}], {"a": {"b": [text, {"c": text}]}}):
        if content != {text: 1} or "\n" not in text:
            assert yaml.safe_load(yaml_text(content)) == content


def test_numbers_words_and_empty_ones():
    content = {"a": [1, -2.5, True, False, None], "b": {}, "c": [], "d": [{}, []]}
    assert yaml.safe_load(yaml_text(content)) == content
    assert yaml_text({"kind": "JobSet", "args": ["--a=b"]}) == 'kind: JobSet\nargs:\n  - "--a=b"\n'
    assert yaml_text({"run": "a\nb\n"}) == "run: |\n  a\n  b\n"


def test_random_nests():
    generator = random.Random(0)

    def nest(depth):
        kind = generator.randrange(3) if depth else 0
        if kind == 1:
            return [nest(depth - 1) for _ in range(generator.randrange(3))]
        if kind == 2:
            return {generator.choice("abcd") + str(number): nest(depth - 1) for number in range(generator.randrange(3))}
        return generator.choice([*TEXTS, 1, 2.5, None, True])

    for _ in range(200):
        content = nest(4)
        assert yaml.safe_load(yaml_text(content)) == content
