import threading

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import json_lines


@pytest.fixture
def unreadable_log(tf):
    from efficientnet_tpu.data import unreadable_log

    return unreadable_log


@pytest.fixture
def make(unreadable_log, tmp_path):
    """UnreadableImages in tmp_path."""

    def make(max_percent=1.0, num_images=10**6, model_dir=tmp_path):
        return unreadable_log.UnreadableImages(
            model_dir and str(model_dir), max_percent, num_images, "--data_dir=photos"
        )

    return make


def _listed(tmp_path):
    content = (tmp_path / "unreadable_images.jsonl").read_bytes()
    found = json_lines.parse(content, dict)
    assert not found.damaged
    return found.entries


def test_lists_and_names_the_first(make, tmp_path, capsys):
    images = make()
    for number in range(1, 1001):
        images.add(f"photos/cat/{number}.jpg", "truncated JPEG")
    path = tmp_path / "unreadable_images.jsonl"
    assert capsys.readouterr().out.splitlines() == [
        *(f"skipped photos/cat/{n}.jpg: truncated JPEG; {n} so far, listed in {path}" for n in range(1, 6)),
        f"skipped 10 unreadable images so far, listed in {path}",
        f"skipped 100 unreadable images so far, listed in {path}",
        f"skipped 1,000 unreadable images so far, listed in {path}",
    ]
    assert _listed(tmp_path) == [
        {"where": f"photos/cat/{number}.jpg", "reason": "truncated JPEG"} for number in range(1, 1001)
    ]
    assert images.count == 1000
    images.check()


def test_repetitions_change_nothing(make, tmp_path, capsys):
    images = make(max_percent=0.0)
    for number in [*range(10), *range(10), 9]:
        images.add(f"{number}.jpg", "empty file")
    assert images.count == len(_listed(tmp_path)) == 10
    assert len(capsys.readouterr().out.splitlines()) == 6  # 5 names, and that there are 10


def test_a_continued_run_does_not_list_twice(make, tmp_path, capsys):
    make().add("a\u2028ö.jpg", "empty file")
    capsys.readouterr()
    images = make()
    assert capsys.readouterr().out == (
        f"unreadable images known from before: 1, listed in {tmp_path / 'unreadable_images.jsonl'}\n"
    )
    assert images.count == 0  # mended since, perhaps
    images.add("a\u2028ö.jpg", "empty file")
    assert capsys.readouterr().out == ""
    images.add("b.jpg", "empty file")
    assert [entry["where"] for entry in _listed(tmp_path)] == ["a\u2028ö.jpg", "b.jpg"]
    assert images.count == 2


@pytest.mark.parametrize(
    "damage",
    [b'{"where": "b.j', b"\0\0\0\0\0\n", b'{"where": "\xff"}\n', b'{"where": ["b"], "reason": ""}\n', b"[7]\n"],
)
def test_damaged_lines_are_dropped_and_written_anew(make, tmp_path, capsys, damage):
    make().add("a.jpg", "empty file")
    path = tmp_path / "unreadable_images.jsonl"
    path.write_bytes(path.read_bytes() + damage)
    make().add("b.jpg", "empty file")
    assert f"{path}: line 2 is damaged, and left out\n" in capsys.readouterr().out
    assert [entry["where"] for entry in _listed(tmp_path)] == ["a.jpg", "b.jpg"]


def test_without_a_model_dir_nothing_is_written(make, tmp_path, capsys):
    images = make(model_dir=None)
    images.add("a.jpg", "empty file")
    assert capsys.readouterr().out == "skipped a.jpg: empty file; 1 so far\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("max_percent", "num_images", "allowed"),
    [(1.0, 10_000, 100), (0.5, 10_000, 50), (1.0, 84, 5), (0.0, 10_000, 0), (100.0, 20, 20)],
)
def test_too_many(make, max_percent, num_images, allowed):
    """One percent of a small set is less than one image: a few may always be skipped, unless none may."""
    images = make(max_percent, num_images)
    for number in range(allowed):
        images.add(f"{number}.jpg", "empty file")
        images.check()
    images.add("last.jpg", "empty file")
    if allowed < num_images:
        with pytest.raises(UserError) as error:
            images.check()
        message = str(error.value)
        assert message.startswith(f"--data_dir=photos: {allowed + 1:,} of {num_images:,} images cannot be read")
        assert message.count(".jpg: empty file") == min(3, allowed + 1)
        assert f"--max_unreadable_percent={max_percent:g} allows {allowed:,}." in message
        assert "`python main.py check-data`" in message


def test_a_list_that_cannot_be_written_stops_nobody(make, tmp_path, capsys):
    images = make(model_dir=tmp_path / "none")
    images.add("a.jpg", "empty file")
    assert "unreadable_images.jsonl: cannot be written" in capsys.readouterr().out
    assert images.count == 1


def test_threads(make, tmp_path):
    images = make(max_percent=100.0)

    def work(first):
        for number in range(first, first + 100):
            images.add(f"{number}.jpg", "empty file")

    threads = [threading.Thread(target=work, args=[start]) for start in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images.count == 450
    assert sorted(entry["where"] for entry in _listed(tmp_path)) == sorted(f"{number}.jpg" for number in range(450))
