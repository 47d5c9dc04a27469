"""The paths in a value of --data_dir: one place, or several archives with commas between."""

import os

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz")


def archives_in(data_dir: str) -> list[str]:
    """Returns the paths of the archives that a value names; none when one of its parts does not end as an archive."""
    paths = data_dir.split(",")
    return paths if all(path.lower().endswith(ARCHIVE_ENDINGS) for path in paths) else []


def absolute_paths(data_dir: str) -> str:
    """Returns the value with every local path made absolute; later commands may be given in another directory."""
    paths = archives_in(data_dir) or [data_dir]
    return ",".join(os.path.abspath(path) if path and "://" not in path else path for path in paths)
