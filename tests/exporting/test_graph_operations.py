"""A SavedModel is a program: which ones are loaded, and which are refused before TensorFlow sees them."""

import pytest

from efficientnet_tpu.errors import UserError

# Words in the names of operations that have to do with files, processes, other code, or other machines.
_REACHING_OUT = (
    "File", "Save", "Restore", "WriteFile", "Print", "Py", "Iterator", "Sql", "SQL", "TextLine", "Csv", "CSV", "LMDB",
    "Service", "GeneratorDataset", "Summary", "Debug", "Load", "Record", "Xla", "Reader", "Remote", "Send", "Recv",
    "Collective", "Checkpoint", "Immutable", "Rpc", "Sdca", "Queue", "Session", "Callable", "Tpu", "TPU", "TfLite",
    "Host", "Snapshot", "Sharded",
)  # fmt: skip


@pytest.fixture(scope="module")
def graph_operations(tf):
    from efficientnet_tpu.exporting import graph_operations

    return graph_operations


def _saved_model(**functions):
    """A SavedModel with a node in its graph that calls f, and its functions: name -> node definitions."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    graph.object_graph_def.nodes.add().user_object.identifier = "_generic_user_object"
    call = graph.graph_def.node.add(name="call", op="StatefulPartitionedCall")
    call.attr["f"].func.name = "f"
    save = graph.graph_def.node.add(name="save", op="StatefulPartitionedCall")
    save.attr["f"].func.name = "saver"
    graph.saver_def.save_tensor_name = "save:0"
    for name, nodes in {"f": [], "saver": ["SaveV2", "MergeV2Checkpoints"], **functions}.items():
        function = graph.graph_def.library.function.add()
        function.signature.name = name
        for node in nodes:
            operation, _, called = node.partition(" ")
            added = function.node_def.add(name="n", op=operation)
            if called:
                added.attr["branches"].list.func.add().name = called
    return model


def test_every_operation_on_the_list_exists_and_none_reaches_out(graph_operations):
    from tensorflow.python.framework import op_def_registry

    from efficientnet_tpu.data.decoding import webp

    listed = graph_operations.OPERATIONS | graph_operations.SAVER_OPERATIONS
    missing = {name for name in listed if op_def_registry.get(name) is None}
    assert missing == (set() if webp.HAS_DECODER else {"DecodeWebP"})
    reaching = {name for name in graph_operations.OPERATIONS if any(word in name for word in _REACHING_OUT)}
    assert not reaching


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ({}, ""),
        ({"f": ["Conv2D", "g"], "g": ["Case f"]}, ""),
        ({"f": ["WriteFile"]}, "its function 'f' has the operation 'WriteFile'"),
        ({"f": ["If g"], "g": ["While h"], "h": ["ReadFile"]}, "its function 'h' has the operation 'ReadFile'"),
        ({"unused": ["EagerPyFunc"]}, "its function 'unused' has the operation 'EagerPyFunc'"),
        ({"f": ["SomebodysOwn"]}, "has the operation 'SomebodysOwn'"),
        ({"f": ["PrintV2"]}, "PrintV2"),  # which may print into a file
        ({"f": ["DebugIdentityV2"]}, "DebugIdentityV2"),  # which may write one
        ({"f": ["InitializeTableFromTextFileV2"]}, "InitializeTableFromTextFileV2"),
        ({"f": ["SaveV2"]}, "its function 'f' has the operation 'SaveV2'"),
        # Functions by the names of operations: TensorFlow would run the operations.
        ({"f": ["WriteFile"], "WriteFile": []}, "its function 'f' has the operation 'WriteFile'"),
        ({"f": ["PartitionedCall WriteFile"]}, "its function 'f' calls 'WriteFile', which it does not define"),
        # The saver's functions may save where only a program of TensorFlow 1 would run them.
        ({"f": ["saver"]}, "its function 'saver' has the operation 'SaveV2'"),
        ({"f": ["PartitionedCall saver"]}, "its function 'saver' has the operation"),
        ({"saver": ["WriteFile"]}, "its function 'saver' has the operation 'WriteFile'"),
    ],
)
def test_graphs(graph_operations, functions, reason):
    content = _saved_model(**functions).SerializeToString()
    if not reason:
        graph_operations.check_operations(content, "DIR")
        return
    with pytest.raises(UserError, match=f"--saved_model=DIR: .*{reason}.* --trust") as raised:
        graph_operations.check_operations(content, "DIR")
    assert "\n" not in str(raised.value)


def test_what_an_object_of_the_model_names_is_no_savers_function(graph_operations):
    model = _saved_model()
    node = model.meta_graphs[0].object_graph_def.nodes.add()
    node.function.concrete_functions.append("saver")
    with pytest.raises(UserError, match="its function 'saver' has the operation"):
        graph_operations.check_operations(model.SerializeToString(), "DIR")


def _field(number, content):
    """A field of a protocol buffer that holds another."""
    size, length = len(content), []
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def test_other_protocol_buffers(graph_operations):
    several = _saved_model()
    several.meta_graphs.add()
    twins = _saved_model(f=["WriteFile"])
    twins.meta_graphs[0].graph_def.library.function.add().signature.name = "f"
    first = _saved_model()  # as TensorFlow 1 writes it
    first.meta_graphs[0].ClearField("object_graph_def")
    value = b""
    for _ in range(1000):  # a function that is an attribute of a function that ...
        value = _field(10, _field(2, _field(2, value)))
    deep = _field(2, _field(2, _field(1, _field(5, _field(2, value)))))
    for content in (b"", b"\xff" * 100, *(model.SerializeToString() for model in (several, twins, first)), deep):
        with pytest.raises(UserError, match="--saved_model=DIR: was not written by"):
            graph_operations.check_operations(content, "DIR")


def _hostile(tf, file):
    """A module with the signatures of an export, which writes a file when it is asked for its labels."""
    module = tf.Module()

    @tf.function(input_signature=[])
    def label_names():
        if tf.random.uniform([]) < 2:
            tf.io.write_file(str(file), "taken")
        return {"label_names": tf.constant(["ape", "bee"])}

    def answer(count):
        return {"probabilities": tf.zeros([count, 2])}

    files = tf.TensorSpec([None], tf.string, "image_bytes")
    images = tf.TensorSpec([None, 32, 32, 3], tf.uint8, "images")
    module.files = tf.function(lambda image_bytes: answer(tf.size(image_bytes)), input_signature=[files])
    module.images = tf.function(lambda images: answer(tf.shape(images)[0]), input_signature=[images])
    return module, {"serving_default": module.files, "images": module.images, "label_names": label_names}


def test_a_strangers_saved_model_writes_nothing_unless_it_is_trusted(tf, tmp_path):
    from efficientnet_tpu.exporting import formats

    module, signatures = _hostile(tf, tmp_path / "stolen")
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signatures)
    with pytest.raises(UserError, match=r"has the operation 'WriteFile'.*add --trust"):
        formats.load_exported(str(tmp_path / "model"))
    assert not (tmp_path / "stolen").exists()
    loaded = formats.load_exported(str(tmp_path / "model"), trust=True)
    assert loaded.label_names == ("ape", "bee")
    assert (tmp_path / "stolen").read_text() == "taken"
    assert loaded.probabilities([b"x"]).shape == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["EfficientNetB0", "EfficientNetV2B0", "ResNet50V2", "MobileNetV3Small", "DenseNet121", "ConvNeXtTiny"]
)
def test_networks_that_keras_exports_only_compute(tf, graph_operations, tmp_path, name):
    model = getattr(tf.keras.applications, name)(weights=None, classes=5, input_shape=(64, 64, 3))
    model.export(str(tmp_path / "model"), verbose=False)
    graph_operations.check_operations((tmp_path / "model" / "saved_model.pb").read_bytes(), "DIR")
