"""From file bytes to pixels: the windows and the kernel of the reference, draws that depend on the seed alone."""

import functools

import numpy as np
import pytest

SIZES = (224, 240, 260, 300, 380, 456, 528, 600, 672, 800)
# Of an image with a shorter side of 375; computed from the reference's formula.
SIDES = (328, 330, 333, 338, 345, 350, 353, 356, 357, 360)
HEIGHT, WIDTH = 180, 240


@pytest.fixture(scope="module")
def preprocessing(tf):
    from efficientnet_tpu.data import preprocessing

    return preprocessing


def _noise(height, width, channels=3):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)


def _bmp(pixels):
    """An uncompressed 24-bit BMP file of uint8 [height, width, 3]."""
    height, width, _ = pixels.shape
    rows = np.pad(pixels[::-1, :, ::-1].reshape(height, width * 3), ((0, 0), (0, -width * 3 % 4)))
    sizes = [54 + rows.size, 0, 54, 40, width, height]
    header = b"BM" + np.array(sizes, "<i4").tobytes() + np.array([1, 24], "<i2").tobytes()
    return header + np.array([0, rows.size, 0, 0, 0, 0], "<i4").tobytes() + rows.tobytes()


def _gif(pixels):
    """A GIF file whose first frame is uint8 [height, width, 3] of few colours, its second one black."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    frames = [Image.fromarray(frame) for frame in (pixels, np.zeros_like(pixels))]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "side"), list(zip(SIZES, SIDES, strict=True)))
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (375, 375)])
def test_center_window_is_the_references(preprocessing, size, side, height, width):
    window = preprocessing.center_window([height, width], size, 32).numpy()
    assert window.tolist() == [(height - side + 1) // 2, (width - side + 1) // 2, side, side]


@pytest.mark.parametrize(("shape", "window"), [((1, 1), [0, 0, 1, 1]), ((1, 9), [0, 4, 1, 1])])
def test_center_window_of_a_tiny_image_is_not_empty(preprocessing, shape, window):
    assert preprocessing.center_window(shape, 32, 32).numpy().tolist() == window


def test_without_padding_the_window_is_the_whole_shorter_side(preprocessing):
    assert preprocessing.center_window([375, 500], 224, 0).numpy().tolist() == [0, 63, 375, 375]


@pytest.mark.parametrize(("height", "width", "size"), [(60, 90, 32), (20, 11, 32), (32, 32, 32), (100, 100, 33)])
def test_resize_is_tensorflow_1s_bicubic_rounded_and_clipped(tf, preprocessing, height, width, size):
    image = _noise(height, width)
    expected = tf.compat.v1.image.resize_bicubic(image[np.newaxis], [size, size], align_corners=False)[0].numpy()
    resized = preprocessing.resize(tf.constant(image), (size, size)).numpy()
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.clip(np.floor(expected + 0.5), 0, 255))


@pytest.mark.parametrize(
    ("flags", "interpolation"),
    [
        ({"model": "efficientnet-lite0"}, "bilinear"),
        ({"model": "efficientnet-b0"}, "bicubic"),
        ({"model": "efficientnet-lite0", "interpolation": "bicubic"}, "bicubic"),
        ({"model": "efficientnet-b0", "interpolation": "bilinear"}, "bilinear"),
    ],
)
def test_training_and_evaluation_resize_as_the_family_or_the_flag_says(tf, preprocessing, flags, interpolation):
    """Of a square image of which all is asked for, both see the whole."""
    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.evaluate import evaluation_image
    from efficientnet_tpu.models.configured import configured_architecture

    whole = {"crop_min_area": 1.0, "eval_crop_padding": 0, "horizontal_flip": False, "resolution": 48}
    config = with_options(Config(), flags | whole)
    architecture = configured_architecture(config.model, 10)
    image = _noise(70, 70)
    resized = tf.compat.v1.image.resize(image[np.newaxis], [48, 48], interpolation)[0].numpy()
    expected = np.clip(np.floor(resized + 0.5), 0, 255)
    train = preprocessing.make_train_image(config.data, architecture.resolution, architecture.interpolation)
    encoded = tf.io.encode_png(image)
    np.testing.assert_array_equal(train(encoded, tf.constant([1, 2])), expected)
    np.testing.assert_array_equal(evaluation_image(config.data, architecture)(encoded), expected)


def test_resize_is_not_tensorflow_2s(tf, preprocessing):
    image = tf.constant(_noise(60, 90))
    other = np.clip(tf.image.resize(image, [32, 32], method="bicubic").numpy(), 0, 255)
    assert np.abs(preprocessing.resize(image, (32, 32)).numpy() - other).max() > 100


def test_overshoot_is_clipped(tf, preprocessing):
    """Beside an edge between black and white the kernel leaves 0..255; wrapped around, it would invert."""
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    overshooting = tf.compat.v1.image.resize_bicubic(edge[np.newaxis], [48, 48])[0, 0, :, 0].numpy()
    assert overshooting.min() < -1
    assert overshooting.max() > 256
    row = preprocessing.resize(tf.constant(edge), (48, 48)).numpy()[0, :, 0].astype(int)
    assert row[overshooting < 0].tolist() == [0] * int((overshooting < 0).sum())
    assert row[overshooting > 255].tolist() == [255] * int((overshooting > 255).sum())


@pytest.mark.parametrize(
    ("file_format", "channels"), [("png", 3), ("png", 1), ("png", 4), ("jpeg", 3), ("jpeg", 1), ("bmp", 3), ("gif", 3)]
)
def test_eval_image_is_the_resized_centre_of_any_format(tf, preprocessing, file_format, channels):
    pixels = _noise(50, 70, channels)
    if channels == 4:  # opaque: what transparent pictures become has tests of its own
        pixels[..., 3] = 255
    if file_format == "gif":  # a palette holds 256 colours
        pixels = pixels // 64 * 64
    jpeg = functools.partial(tf.io.encode_jpeg, chroma_downsampling=False)
    encoded = tf.constant({"png": tf.io.encode_png, "jpeg": jpeg, "bmp": _bmp, "gif": _gif}[file_format](pixels))
    if file_format == "jpeg":  # lossy: what the decoder makes of the whole file
        pixels = tf.io.decode_jpeg(encoded).numpy()
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    top, left, side, _ = preprocessing.center_window([50, 70], 32, 32).numpy()
    expected = preprocessing.resize(tf.constant(pixels[top : top + side, left : left + side, :3]), (32, 32))
    image = preprocessing.eval_image(encoded, preprocessing.Preparation(32, 32))
    assert image.dtype == tf.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(("chroma_downsampling", "exact_columns"), [(False, None), (True, -1)])
def test_decoding_a_window_of_a_jpeg_is_cutting_it_out(tf, preprocessing, chroma_downsampling, exact_columns):
    """But for one column where colour is stored at half resolution: its right neighbour's was not decoded."""
    encoded = tf.io.encode_jpeg(_noise(123, 77), quality=90, chroma_downsampling=chroma_downsampling)
    whole = tf.io.decode_jpeg(encoded, channels=3).numpy()
    for window in ([0, 0, 123, 77], [17, 5, 40, 61], [122, 60, 1, 17]):
        top, left, height, width = window
        part = preprocessing.decode_window(encoded, lambda shape, window=window: tf.constant(window)).numpy()
        expected = whole[top : top + height, left : left + width]
        assert part.shape == expected.shape
        np.testing.assert_array_equal(part[:, :exact_columns], expected[:, :exact_columns])


@pytest.mark.slow
def test_eval_images_is_eval_image_of_each(tf, preprocessing):
    files = [tf.io.encode_png(_noise(40, 50)).numpy(), tf.io.encode_jpeg(_noise(90, 31)).numpy()]
    batch = preprocessing.eval_images(tf.constant(files), preprocessing.Preparation(32, 8))
    assert batch.shape == (2, 32, 32, 3)
    for image, encoded in zip(batch, files, strict=True):
        np.testing.assert_array_equal(
            image, preprocessing.eval_image(tf.constant(encoded), preprocessing.Preparation(32, 8))
        )


@pytest.fixture(scope="module")
def coordinates(tf):
    """A PNG whose red is the row and whose green is the column of the pixel."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return tf.io.encode_png(np.stack([rows, columns, rows * 0], -1).astype(np.uint8))


@pytest.fixture(scope="module")
def draws(tf, preprocessing, coordinates):
    """draw(crop_min_area, flip) -> uint8 [200, 32, 32, 3]: what `train_image` makes of `coordinates` by 200 seeds."""

    @functools.cache
    def draw(crop_min_area, flip=True):
        prepare = functools.partial(
            preprocessing.train_image,
            preparation=preprocessing.Preparation(32, 32),
            crop_min_area=crop_min_area,
            flip=flip,
        )
        seeds = tf.data.Dataset.range(200).map(lambda index: tf.stack([7, tf.cast(index, tf.int32)]))
        return np.stack(list(seeds.map(lambda seed: prepare(coordinates, seed)).as_numpy_iterator()))

    return draw


def _extents(images):
    """Height, width in source pixels of the crops of `coordinates`, estimated from the slopes of rows and columns."""
    images = images.astype(np.float64)
    # TensorFlow 1's kernel puts output pixel i at i * extent / 32: 24 pixels span 24/32 of the extent.
    heights = np.abs(images[:, 28, :, 0] - images[:, 4, :, 0]).mean(axis=1) * 32 / 24
    widths = np.abs(images[:, :, 28, 1] - images[:, :, 4, 1]).mean(axis=1) * 32 / 24
    return heights, widths


@pytest.mark.parametrize("crop_min_area", [0.08, pytest.param(0.4, marks=pytest.mark.slow)])
def test_crops_cover_the_areas_and_aspects_asked_for(draws, crop_min_area):
    heights, widths = _extents(draws(crop_min_area))
    areas, aspects = heights * widths / (HEIGHT * WIDTH), widths / heights
    # The sampler also asks for a tenth of the image. Two pixels of rounding, at most.
    smallest = max(crop_min_area, 0.1)
    assert areas.min() > smallest * 0.93
    assert areas.max() < 1.03
    assert 0.72 < aspects.min() < 0.85
    assert 1.2 < aspects.max() < 1.39
    # Both ends and the middle of the range occur.
    thirds = np.histogram(areas, bins=3, range=(smallest, 1))[0]
    assert thirds.min() > 8


def test_crops_lie_everywhere(draws):
    images = draws(0.08).astype(np.float64)
    centres = images[:, 16, 16, :2]
    assert centres.min(axis=0) == pytest.approx([0.25 * HEIGHT, 0.25 * WIDTH], abs=30)
    assert centres.max(axis=0) == pytest.approx([0.75 * HEIGHT, 0.75 * WIDTH], abs=30)
    assert centres.mean(axis=0) == pytest.approx([HEIGHT / 2, WIDTH / 2], abs=10)


def _mirrored(images):
    return images[:, 16, 28, 1] < images[:, 16, 4, 1]


def test_about_half_are_mirrored(draws):
    assert 75 < _mirrored(draws(0.08)).sum() < 125


def test_without_flip_none_is_mirrored_and_the_crops_are_the_same(draws):
    flipped, plain = draws(0.08), draws(0.08, False)
    assert not _mirrored(plain).any()
    unflipped = np.where(_mirrored(flipped)[:, np.newaxis, np.newaxis, np.newaxis], flipped[:, :, ::-1], flipped)
    np.testing.assert_array_equal(unflipped, plain)


@pytest.mark.parametrize("shape", [(64, 64), (30, 80), (130, 300)])
def test_where_no_crop_fits_the_evaluation_crop_is_taken(tf, preprocessing, shape):
    """With all of the area: the sampler finds the whole of a square image and nothing in a long one."""
    encoded = tf.io.encode_png(_noise(*shape))
    expected = preprocessing.eval_image(encoded, preprocessing.Preparation(32, 32))
    for number in range(5):
        image = preprocessing.train_image(
            encoded, tf.constant([3, number]), preprocessing.Preparation(32, 32), 1.0, False
        )
        np.testing.assert_array_equal(image, expected)


def test_train_image_depends_on_the_seed_alone(tf, preprocessing, coordinates):
    def draw(*seed):
        return preprocessing.train_image(
            coordinates, tf.constant(seed), preprocessing.Preparation(32, 32), 0.08, True
        ).numpy()

    first = draw(1, 2)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    tf.random.set_seed(5)
    np.testing.assert_array_equal(draw(1, 2), first)
    assert len({draw(*seed).tobytes() for seed in ((1, 2), (1, 3), (2, 2), (2, 1))}) == 4


@pytest.mark.parametrize("encode", ["encode_png", "encode_jpeg"])
def test_a_dataset_prepares_as_eager_execution_does(tf, preprocessing, encode):
    encoded = getattr(tf.io, encode)(_noise(140, 150))  # some crops are reduced, others not
    seeds = np.stack([np.full(6, 11), np.arange(6)], axis=1).astype(np.int32)
    preparation = preprocessing.Preparation(33, 32)
    prepare = functools.partial(preprocessing.train_image, preparation=preparation, crop_min_area=0.2, flip=True)
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(lambda seed: prepare(encoded, seed), num_parallel_calls=2)
    assert dataset.element_spec == tf.TensorSpec([33, 33, 3], tf.uint8)
    for image, seed in zip(dataset, seeds, strict=True):
        np.testing.assert_array_equal(image, prepare(encoded, tf.constant(seed)))


def test_a_file_that_is_no_image_is_an_error(tf, preprocessing):
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocessing.eval_image(tf.constant(b"<html>"), preprocessing.Preparation(32, 32))


@pytest.mark.parametrize(
    ("asked", "size", "padding"),
    [(None, 224, 32), (None, 600, 32), (None, 112, 16), (None, 32, 5), (0, 224, 0), (54, 380, 54), (32, 32, 32)],
)
def test_evaluation_crop_is_the_references_and_never_the_centre_only(preprocessing, asked, size, padding):
    assert preprocessing.crop_padding(asked, size) == padding
