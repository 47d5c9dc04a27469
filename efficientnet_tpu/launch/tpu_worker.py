"""Runs a TensorFlow server on every host of a TPU slice of several hosts, so that one program uses all chips.

    python -m efficientnet_tpu.launch.tpu_worker NUMBER HOST:PORT,HOST:PORT,...

NUMBER is this host's, from 0, in the list of all. The program that trains runs on one of them, as
`TPU_LOAD_LIBRARY=0 main.py --tpu=grpc://HOST:PORT,HOST:PORT,...`: the chips are the server's.

A server knows of itself alone, as those of the public recipes do; the program that trains joins them. So one that was
started anew is joined like the others, and outlives the programs.
"""

import sys
from collections.abc import Sequence

from efficientnet_tpu.hardware import tensorflow_startup


def serve(arguments: Sequence[str]) -> None:
    """Starts the server of one host and waits until the process is ended."""
    tensorflow_startup.import_tensorflow()
    import tensorflow as tf

    from efficientnet_tpu.data.kernels.prepare_image import load_op

    # The input pipeline of the program that trains runs here. If numba fails here and not there, the program stops at
    # the first image with an error that names the missing operation: hosts of a slice have one image.
    if op := load_op():
        op.register_all()
    number, addresses = arguments
    address = addresses.split(",")[int(number)]
    tf.distribute.Server({"tpu_worker": [address]}, job_name="tpu_worker", task_index=0).join()


if __name__ == "__main__":
    serve(sys.argv[1:])
