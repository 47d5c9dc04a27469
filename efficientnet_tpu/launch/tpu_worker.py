"""What runs on every host of a TPU slice of several: a TensorFlow server, through which one program uses all chips.

    python -m efficientnet_tpu.launch.tpu_worker NUMBER HOST:PORT,HOST:PORT,...

NUMBER is this host's, from 0, in the list of all. The program that trains runs on one of them, as
`TPU_LOAD_LIBRARY=0 main.py --tpu=grpc://HOST:PORT,HOST:PORT,...`: the chips are the server's.
"""

import sys
from collections.abc import Sequence

from efficientnet_tpu.hardware import tensorflow_startup


def serve(arguments: Sequence[str]) -> None:
    """Serves until it is ended."""
    tensorflow_startup.import_tensorflow()
    import tensorflow as tf

    from efficientnet_tpu.data.kernels import prepare_image_op

    prepare_image_op.register_all()  # the input pipeline of the program that trains runs here
    number, addresses = arguments
    tf.distribute.Server({"worker": addresses.split(",")}, job_name="worker", task_index=int(number)).join()


if __name__ == "__main__":
    serve(sys.argv[1:])
