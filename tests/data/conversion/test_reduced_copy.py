"""Reduced copies: their sizes, what they keep of a file, and what is said of them."""

import io

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from tests.support.image_files import encode, exif, photo


@pytest.fixture(scope="module")
def copies(tf):
    from efficientnet_tpu.data.conversion.reduced_copy import ReducedCopies

    return ReducedCopies(40, 95, "white")


def _opened(content):
    return Image.open(io.BytesIO(content))


def test_a_copy_is_the_mean_of_the_image(copies):
    for height, width, size in ((400, 300, (30, 40)), (41, 7, (7, 40)), (3, 2000, (40, 1))):
        copy = _opened(copies.copy(encode(photo(height, width) // 4 * 2 + 60, "PNG")))
        assert (copy.format, copy.size, copy.mode) == ("JPEG", size, "RGB")
    gray = np.repeat(photo(400, 120, 1), 3, axis=2)  # whose color no JPEG halves
    means = gray.reshape(40, 10, 12, 10, 3).mean((1, 3))
    for kind in ("PNG", "JPEG"):
        copy = np.float32(_opened(copies.copy(encode(gray, kind))))
        assert abs(copy - means).mean() < 4


def test_small_images_are_kept_byte_for_byte(copies):
    for content in (encode(photo(40, 30), "PNG"), encode(photo(30, 40), "JPEG"), encode(photo(9, 9), "BMP")):
        assert copies.copy(content) == content


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_turned_picture_stays_turned(tf, copies, kind):
    from efficientnet_tpu.data.decoding.image_format import decode, orientation

    for number in (1, 3, 6, 8):
        encoded = tf.constant(copies.copy(encode(photo(80, 120), kind, exif=exif(number))))
        assert orientation(encoded) == number
        assert _opened(encoded.numpy()).getexif().get(0x0112, 1) == number
        assert decode(encoded).shape == ((40, 27, 3) if number in (6, 8) else (27, 40, 3))


def test_transparent_pictures_are_laid_on_the_background(copies):
    nothing = encode(np.zeros([100, 100, 4], np.uint8), "PNG")
    assert np.asarray(_opened(copies.copy(nothing))).min() > 250


def test_the_summary_counts(tf):
    from efficientnet_tpu.data.conversion.reduced_copy import ReducedCopies

    copies = ReducedCopies(50, 80, "white")
    assert copies.summary() == ""
    kept = len(copies.copy(encode(photo(20, 20), "PNG")))
    assert "0 of 1 images" in copies.summary()
    assert "costs" not in copies.summary()
    large = encode(photo(300, 300), "PNG")
    kept += len(copies.copy(large))
    assert "1 of 2 images written are reduced, as JPEG of quality 80" in copies.summary()
    assert f"{kept:,} bytes in place of" in copies.summary()
    assert "in 1 copies, and crops are cut out of 50 pixels" in copies.summary()


@pytest.mark.slow
def test_shards_of_copies_say_so_and_larger_networks_refuse_them(tf, tmp_path, capsys):
    from efficientnet_tpu.data.conversion import make_tfrecords
    from efficientnet_tpu.data.datasets import open_data
    from efficientnet_tpu.data.split import SINGLE_HOST

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(encode(photo(200 + number, 90), "JPEG"))
    options = {"data_dir": str(tmp_path / "photos"), "output_dir": str(tmp_path / "shards"), "max_side": 64}
    config = with_options(Config(), options)
    make_tfrecords.convert(config)
    assert "--max_side=64: 6 of 6 images written are reduced" in capsys.readouterr().out
    data = open_data(with_options(config, {"data_dir": str(tmp_path / "shards")}).data)
    assert data.max_side == 64
    content, _ = data.train.load(next(iter(data.train.handles(SINGLE_HOST, None))))
    assert _opened(content.numpy()).height == 64
    data.require_pixels(64, "--data_dir=x")
    with pytest.raises(UserError, match=r"--data_dir=x: .* --max_side=64\), and the network takes 224 x 224"):
        data.require_pixels(224, "--data_dir=x")
    with pytest.raises(UserError, match=r"--quality=80: without --max_side"):
        make_tfrecords.make_copies(with_options(Config(), {"quality": 80}))
