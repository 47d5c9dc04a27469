"""Labelled images as pairs (file content, label from 0 on): written to a shard, and read from a split of any source."""

from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY


def write_shard(tf, path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content, label in examples:
            example = tf.train.Example()
            example.features.feature[ENCODED_KEY].bytes_list.value.append(content)
            example.features.feature[LABEL_KEY].int64_list.value.append(label + 1)
            writer.write(example.SerializeToString())


def read_examples(split, order=None):
    from efficientnet_tpu.data.split import HostShard

    examples = split.handles(HostShard(), order).map(split.load)
    return [(content, int(label)) for content, label in examples.as_numpy_iterator()]


def touch(root, *names):
    """Makes empty files below a folder, and returns the folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return str(root)
