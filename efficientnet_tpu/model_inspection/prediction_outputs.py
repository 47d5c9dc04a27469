"""Places that the predictions of a batch go to: stdout or --output, --embeddings, --picture and --cam.

Nothing of a batch is kept, but for the tiles of --picture.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from efficientnet_tpu.config.commands import OutputConfig
from efficientnet_tpu.data.decoding.image_format import Reading
from efficientnet_tpu.display.lettering import legend
from efficientnet_tpu.display.prediction_output import FORMS, Prediction, PredictionWriter, Writer, opened_file
from efficientnet_tpu.exporting.classifier import Serving
from efficientnet_tpu.model_inspection import prediction_grid
from efficientnet_tpu.model_inspection.class_activation_map import MapWriter
from efficientnet_tpu.storage.growing.npy_file import NpyWriter
from efficientnet_tpu.storage.growing.partial_file import partial_file, partial_path


class PredictionOutputs:
    """The places that predictions go to. `opened` makes it."""

    def __init__(self, output: OutputConfig, writer: Writer, embeddings: NpyWriter | None) -> None:
        self._output, self._writer, self._embeddings = output, writer, embeddings
        self._grid: prediction_grid.PredictionGrid | None = None
        self._maps: MapWriter | None = None

    def draw_with(self, serving: Serving | None, label_names: Sequence[str], reading: Reading) -> None:
        """Makes ready for --picture and, with a run, --cam."""
        self._label_names = label_names
        if self._output.picture:
            self._grid = prediction_grid.PredictionGrid(label_names, reading)
        if serving and self._output.cam:
            self._maps = MapWriter(serving, self._output.cam)

    def add(
        self,
        predictions: Sequence[Prediction],
        contents: Sequence[bytes],
        images: np.ndarray,
        features: np.ndarray | None,
    ) -> None:
        """Takes a batch.

        contents: of the files. images: uint8 [batch, resolution, resolution, 3], as the network takes them. features:
        float32 [batch, features], for --embeddings.
        """
        self._writer.write(predictions)
        if self._embeddings and features is not None:
            self._embeddings.write(features)
        if self._grid:
            self._grid.add(predictions, contents)
        if self._maps:
            self._maps.write(predictions, np.asarray(images))

    def finish_pictures(self) -> None:
        """Writes --picture, and prints what the pictures are and which classes have numbers in them."""
        drawn = self._grid.write(self._output.picture) if self._grid else 0
        if drawn:
            which = f"the first {drawn:,} images" if drawn == prediction_grid.MOST_TILES else "the images"
            print(f"{self._output.picture}: {which} with their predictions", file=sys.stderr)
        num_maps = len(self._maps.paths) if self._maps else 0
        if num_maps:
            print(f"{self._output.cam}: {num_maps:,} class activation maps", file=sys.stderr)
        if (drawn or num_maps) and (numbers := legend(self._label_names)):
            print(numbers, file=sys.stderr)


@contextlib.contextmanager
def opened(output: OutputConfig, width: int) -> Iterator[PredictionOutputs]:
    """Opens stdout or --output, and --embeddings. width: of the longest path.

    Files get their names when the context ends; an exception leaves them as `partial_file` does.
    """
    with contextlib.ExitStack() as stack:
        if output.output:
            writer = stack.enter_context(opened_file(output.output))
        else:
            writer = PredictionWriter(FORMS[output.format], width, sys.stdout)
            stack.callback(writer.close)
        embeddings = None
        if output.embeddings:
            embeddings = NpyWriter(stack.enter_context(partial_file(output.embeddings, "embeddings")))
        yield PredictionOutputs(output, writer, embeddings)


def partial_files(output: OutputConfig) -> list[str]:
    """Returns where what is done so far is, of the files that are not whole."""
    return [partial_path(path) for path in (output.output, output.embeddings) if path]
