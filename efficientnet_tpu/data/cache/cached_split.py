"""Images of which --cache keeps reduced pictures, as a Split."""

from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.cache.picture_cache import PictureCache
from efficientnet_tpu.data.sources.file_split import FileSplit


@dataclass(frozen=True, eq=False)
class CachedSplit(FileSplit):
    """The images of a FileSplit, whose content is what `cache` gives."""

    cache: PictureCache

    @property
    def is_reduced(self) -> bool:
        """True: contents may be reduced pictures."""
        return True

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a scalar handle: (content, or reduced picture, string []; label int32 [])."""
        content = self.cache.content(handle, tf.gather(self.path_tensor, handle))
        return content, tf.gather(self.label_tensor, handle)
