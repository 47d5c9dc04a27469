"""The user's cache keeps what was used last, beside programs that write and remove there too."""

import os
import re
import threading

from efficientnet_tpu.storage.user_cache import mark_used, remove_unused

NAMES = re.compile(r"[0-9a-f]+")


def _files(folder, count):
    for number in range(count):
        path = folder / f"{number:x}"
        path.touch()
        os.utime(path, times=(1e9 + number, 1e9 + number))


def test_those_used_last_are_kept_and_other_files_left(tmp_path):
    _files(tmp_path, 20)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "foreign").touch()
    mark_used(str(tmp_path / "0"))
    mark_used(str(tmp_path / "none"))
    remove_unused(str(tmp_path), NAMES, most=3)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "12", "13", "a folder", "foreign"}
    remove_unused(str(tmp_path / "none"), NAMES)


def test_several_programs_may_remove_at_a_time(tmp_path):
    _files(tmp_path, 300)
    threads = [threading.Thread(target=remove_unused, args=(str(tmp_path), NAMES, 5)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(path.name, 16) for path in tmp_path.iterdir()) == [295, 296, 297, 298, 299]
