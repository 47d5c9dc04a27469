"""Pictures for people: tiles of one size, words that fit, files that are whole."""

import numpy as np
import pytest
from PIL import Image

SIDE = 40


@pytest.fixture(scope="module")
def image_grid(tf):
    from efficientnet_tpu.display import image_grid

    return image_grid


def _plain(height, width, level):
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("shape", "size"), [((40, 40), (40, 40)), ((10, 20), (40, 20)), ((600, 300), (20, 40)), ((1, 900), (40, 1))]
)
def test_the_longer_side_is_fitted(image_grid, shape, size):
    assert image_grid.fitted(_plain(*shape, 7), SIDE).size == size


def test_small_images_keep_their_pixels_and_large_ones_are_smoothed(image_grid):
    chessboard = (np.indices((8, 8)).sum(axis=0)[..., np.newaxis] % 2 * [255, 255, 255]).astype(np.uint8)
    enlarged = np.asarray(image_grid.fitted(chessboard, 40))
    assert np.array_equal(enlarged, chessboard.repeat(5, axis=0).repeat(5, axis=1))
    reduced = np.asarray(image_grid.fitted(np.tile(chessboard, (40, 40, 1)), 20))
    assert (abs(reduced.astype(int) - 127) < 10).all()


def test_grid_places_tiles_row_by_row_above_their_captions(image_grid):
    tiles = [image_grid.Tile(_plain(SIDE, SIDE, 20 * index), ("name", "more")) for index in range(5)]
    grid = np.asarray(image_grid.grid(tiles, 3, SIDE, ("a", "b", "c")))
    pitch, row = SIDE + image_grid.MARGIN, SIDE + 2 * (image_grid.TEXT + 4) + image_grid.MARGIN
    top = grid.shape[0] - 2 * row  # headings
    assert grid.shape[1] == 3 * pitch + image_grid.MARGIN
    assert top >= image_grid.TEXT
    for index in range(5):
        left, upper = image_grid.MARGIN + index % 3 * pitch, top + index // 3 * row
        assert (grid[upper : upper + SIDE, left : left + SIDE] == 20 * index).all()
        assert (grid[upper + SIDE + 1 : upper + row, left : left + SIDE] < 128).any()  # the caption
    for column in range(3):
        left = image_grid.MARGIN + column * pitch
        assert (grid[:top, left : left + SIDE] < 200).any()
    assert (grid[top + row :, -pitch:] == 255).all()  # no sixth tile


def test_captions_stay_under_their_tiles(image_grid):
    long = "W" * 50
    grid = np.asarray(image_grid.grid([image_grid.Tile(_plain(SIDE, SIDE, 0), (long,))], 1, SIDE))
    assert (grid[:, : image_grid.MARGIN - 1] == 255).all()
    assert (grid[:, -image_grid.MARGIN + 1 :] == 255).all()


def test_parts_are_stacked_at_their_own_width(image_grid):
    parts = [Image.new("RGB", (20, 10), "red"), Image.new("RGB", (30, 5), "blue")]
    whole = np.asarray(image_grid.stacked(parts))
    top = image_grid.MARGIN // 2
    assert whole.shape[1] == 30
    assert (whole[top : top + 10, :20] == (255, 0, 0)).all()
    assert (whole[top : top + 10, 20:] == 255).all()
    assert (whole[top + 10 : top + 15] == (0, 0, 255)).all()


def test_the_file_is_a_png_whatever_its_name(image_grid, tmp_path):
    path = tmp_path / "grid.jpeg"
    image_grid.write_png(Image.new("RGB", (3, 2), "red"), str(path))
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (3, 2))
    assert list(tmp_path.iterdir()) == [path]
