"""README.md of an export: for each format, the lines that classify a picture without this package."""

from collections.abc import Sequence

import efficientnet_tpu
from efficientnet_tpu.data.split import LABELS_TXT
from efficientnet_tpu.exporting.metadata import ExportMetadata

README = "README.md"

_SAVED_MODEL = """\
## savedmodel

It takes the contents of image files, and prepares them itself. Run this in this folder:

```python
import tensorflow as tf

model = tf.saved_model.load(".")
answer = model.signatures["serving_default"](image_bytes=tf.constant([open("photo.jpg", "rb").read()]))
print(answer["class_names"][0, 0].numpy().decode(), answer["probabilities"][0].numpy().max())
```

TensorFlow Serving takes it as a version of a model, `models/NAME/1`; `main.py export --versioned` counts them up.
"""

_PIXELS = """\
## {title}

It takes pixels: the middle of the picture, resized.

```python
{imports}

picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
side = min(picture.size) * {resolution} // {padded}
left, top = (picture.width - side + 1) // 2, (picture.height - side + 1) // 2
pixels = np.asarray(picture.resize(({resolution}, {resolution}), Image.{filter}, (left, top, left + side, top + side)))
{call}
print(open("labels.txt", encoding="utf-8").read().split("\\n")[probabilities.argmax()], probabilities.max())
```
"""

_IMPORTS = "{before}import numpy as np\n{after}from PIL import Image, ImageOps"

_KERAS = """\
probabilities = keras.models.load_model("model.keras").predict(pixels[np.newaxis], verbose=0)[0]"""

_TFLITE = """\
model = Interpreter("{file}")
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], pixels[np.newaxis])
model.invoke()
probabilities = model.get_tensor(model.get_output_details()[0]["index"])[0]{scale}"""

_ONNX = """\
model = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
probabilities = model.run(None, {model.get_inputs()[0].name: pixels[np.newaxis]})[0][0]"""

_KOTLIN = """
On Android, with LiteRT (`com.google.ai.edge.litert`), for a bitmap of {resolution} x {resolution} pixels:

```kotlin
val model = Interpreter(FileUtil.loadMappedFile(context, "{file}"))
val size = {resolution}
val pixels = ByteBuffer.allocateDirect(size * size * 3)
val colors = IntArray(size * size).also {{ bitmap.getPixels(it, 0, size, 0, 0, size, size) }}
for (color in colors) pixels.put((color shr 16).toByte()).put((color shr 8).toByte()).put(color.toByte())
val probabilities = arrayOf({array}({classes})).also {{ model.run(pixels.rewind(), it) }}[0]
```
"""

_JAVASCRIPT = """
In a browser, with onnxruntime-web, for a canvas of {resolution} x {resolution} pixels:

```javascript
const model = await ort.InferenceSession.create("model.onnx");
const {{ data }} = canvas.getContext("2d").getImageData(0, 0, {resolution}, {resolution});
const pixels = Uint8Array.from(data.filter((_, index) => index % 4 < 3));
const image = new ort.Tensor("uint8", pixels, [1, {resolution}, {resolution}, 3]);
const probabilities = (await model.run({{ [model.inputNames[0]]: image }}))[model.outputNames[0]].data;
```
"""


def readme_text(metadata: ExportMetadata, formats: Sequence[str]) -> str:
    """Returns the text. formats: those in the folder, in the words of --export_format."""
    parts = [_head(metadata), *(_SECTIONS[name](metadata) for name in _SECTIONS if name in formats)]
    if set(formats) - {"savedmodel"}:
        parts.append(_differences(metadata))
    return "\n".join(parts)


def _head(metadata: ExportMetadata) -> str:
    return (
        f"# {metadata.model}, {len(metadata.label_names):,} classes\n\n"
        f"An image classifier at step {metadata.step:,} of its training, exported by efficientnet_tpu "
        f"{efficientnet_tpu.__version__}. It sees {metadata.resolution} x {metadata.resolution} pixels. {LABELS_TXT} "
        "names the classes, one a line, in the order of the probabilities.\n`sha256sum -c SHA256SUMS` finds damage.\n"
    )


def _differences(metadata: ExportMetadata) -> str:
    transparent = f" lays transparent pictures on {metadata.background}," if metadata.background != "none" else ""
    return (
        "## How near these lines come\n\n"
        f"`main.py predict` resizes pictures as in training,{transparent} and says what it cannot read. Pillow's "
        "resize is smoother: the probabilities of the lines above differ a little. Those of the SavedModel do not.\n"
    )


def _pixels(metadata: ExportMetadata, title: str, imports: str, call: str) -> str:
    return _PIXELS.format(
        title=title,
        imports=imports,
        call=call,
        resolution=metadata.resolution,
        padded=metadata.resolution + metadata.eval_crop_padding,
        filter=metadata.interpolation.upper(),
    )


def _keras(metadata: ExportMetadata) -> str:
    return _pixels(metadata, "keras", _IMPORTS.format(before="import keras\n", after=""), _KERAS)


def _tflite(metadata: ExportMetadata, name: str, file: str, scale: str, array: str) -> str:
    imports = _IMPORTS.format(before="", after="from ai_edge_litert.interpreter import Interpreter\n")
    kotlin = _KOTLIN.format(resolution=metadata.resolution, file=file, array=array, classes=len(metadata.label_names))
    return _pixels(metadata, name, imports, _TFLITE.format(file=file, scale=scale)) + kotlin


def _onnx(metadata: ExportMetadata) -> str:
    imports = _IMPORTS.format(before="", after="import onnxruntime\n")
    return _pixels(metadata, "onnx", imports, _ONNX) + _JAVASCRIPT.format(resolution=metadata.resolution)


_SECTIONS = {
    "savedmodel": lambda metadata: _SAVED_MODEL,
    "keras": _keras,
    "tflite": lambda metadata: _tflite(metadata, "tflite", "model.tflite", "", "FloatArray"),
    "tflite-int8": lambda metadata: _tflite(metadata, "tflite-int8", "model-int8.tflite", " / 256", "ByteArray"),
    "onnx": _onnx,
}
