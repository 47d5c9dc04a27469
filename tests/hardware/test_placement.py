"""What layers are told of the device that runs them. Means over groups of replicas: tests/models/test_layers.py."""


def test_what_counts_as_a_cpu(tf, monkeypatch):
    from efficientnet_tpu.hardware import placement

    assert placement.on_cpu()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] if kind == "GPU" else [])
    assert not placement.on_cpu()
    monkeypatch.undo()
    strategy = object.__new__(tf.distribute.TPUStrategy)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    assert placement.on_tpu()
    assert not placement.on_cpu()
