"""The errors of TensorFlow, CUDA, libtpu, Google Cloud and mismatched packages that people meet: cause and command.

Their messages say what failed inside, not what to do. One table recognizes them, whoever prints them. No TensorFlow.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import environment_command, install_command

OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class KnownError:
    """A message that is recognized.

    name: of the error, in a few words. pattern: a regular expression of a part of the message; those of gcloud are
    read by bash and grep too, so that they use neither lookaround nor classes such as \\d. source: a public thread with
    the message. command: returns what to run, or to change.
    of_gcloud: printed by gcloud, in the script of `launch`. lasting: trying again does not help.
    """

    name: str
    pattern: str
    source: str
    cause: str
    command: Callable[[], str]
    of_gcloud: bool = False
    lasting: bool = False


def _says(text: str) -> Callable[[], str]:
    return lambda: text


_WITH_TPU = "in a fresh environment: "
_SMALLER = (
    "--gradient_accumulation_steps=2 with the same --train_batch_size, --rematerialize=blocks, --precision=bfloat16, "
    "or half the --train_batch_size; in an evaluation half the --eval_batch_size"
)

# The first that matches counts. Threads are owner/name#number of GitHub.
KNOWN_ERRORS = (
    KnownError(
        OUT_OF_MEMORY,
        # TensorFlow's allocator; CUDA's driver; XLA for GPUs; the compiler for TPUs; the TPU's own word for it, which
        # was out of memory in both threads; cuDNN and cuBLAS, which find none left for their own work.
        r"OOM when allocating tensor|ran out of memory trying to allocate|CUDA_ERROR_OUT_OF_MEMORY|"
        r"Out of memory while trying to allocate|Out of memory allocating|failed to allocate memory|"
        r"Ran out of memory in memory space|Exceeded hbm capacity|Attempting to (reserve|allocate) [0-9.]+[KMG]|"
        r"Bad hardware status|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|std::bad_alloc|"
        r"Unable to allocate [0-9.]+ [KMGT]iB for an array",
        "tensorflow/tensorflow#51614, tensorflow/tensorflow#30912, jax-ml/jax#13428, LargeWorldModel/LWM#60, "
        "tensorflow/tpu#403, google-research/text-to-text-transfer-transformer#767",
        "the step, or the evaluation, needs more memory than the device has",
        _says(_SMALLER),
    ),
    KnownError(
        "no TPU in this TensorFlow",
        r"No OpKernel was registered to support Op '?\"?(ConfigureDistributedTPU|TPU[A-Z])|"
        r"Could not find device for node: .*(ConfigureDistributedTPU|TPU[A-Z])",
        "tensorflow/tensorflow#96203, tensorflow/tensorflow#28395, googlecolab/colabtools#5203",
        "this is the TensorFlow of CPUs and GPUs: it knows the TPU's operations and has no program for them",
        lambda: _WITH_TPU + environment_command("tpu"),
    ),
    KnownError(
        "no program for an operation",
        r"No OpKernel was registered to support Op|Could not find device for node|"
        r"NodeDef mentions attr .* not in Op|Op type not registered",
        "tensorflow/tensorflow#33307",
        "the device, or this TensorFlow, lacks an operation: another version of it wrote the model, or two TensorFlows "
        "are mixed in one environment",
        _says("main.py doctor"),
    ),
    KnownError(
        "the TPU is held by another program",
        r"[Tt]he TPU is already in use by process|libtpu\.so (is )?already in used?|libtpu_lockfile|"
        r"Device or resource busy.*(accel|vfio)|Internal error when accessing libtpu multi-process lockfile",
        "jax-ml/jax#10192, jax-ml/jax#22070, pytorch/xla#3214, huggingface/diffusers#2745",
        "one program at a time may open a TPU; a file in /tmp is left where one has aborted",
        _says("sudo lsof -w /dev/accel* /dev/vfio/*; if nothing holds it: sudo rm -f /tmp/libtpu_lockfile"),
    ),
    KnownError(
        "libtpu does not fit TensorFlow",
        r"(undefined symbol|not found in libtpu|Failed to find symbol|dlsym).*(TfTpu|PJRT|Tpu[A-Z])|"
        r"libtpu.*(undefined symbol|cannot open shared object)|File is already registered: .*xla/|"
        r"Check failed: .*TpuHalFactory|tpu_(api_dlsym_initializer|library_init_fns|initializer).*Check failed",
        "tensorflow/tensorflow#82208, googlecolab/colabtools#4662, huggingface/diffusers#2745",
        "libtpu and TensorFlow are of different times; each tensorflow-tpu loads a narrow range of libtpu",
        lambda: _WITH_TPU + environment_command("tpu"),
    ),
    KnownError(
        "PJRT finds no TPU",
        r"No ba16c7433 device found|TPU platform (is )?not (available|found)|PJRT.*(NOT_FOUND|not found|UNAVAILABLE)|"
        r"(No|no) PJRT (client|plugin)|failed to (create|initialize).*PJRT|TPU initialization failed|"
        r"Failed to get global TPU topology|TPU system is not available",
        "jax-ml/jax#13260, tensorflow/tensorflow#93618",
        "the TPU's device files are not there or may not be opened, or variables of PJRT are of another machine",
        _says("main.py doctor; ls -l /dev/accel* /dev/vfio; env | grep -E 'TPU_|PJRT'"),
    ),
    KnownError(
        "no TPU worker answers",
        r"unknown service tensorflow\.(WorkerService|WorkerService)|Session .* was not found|"
        r"is neither a type of a primitive operation nor a name of a function registered",
        "tensorflow/tensorflow#56579, tensorflow/tensorflow#35700",
        "what listens at the address is no TensorFlow server of this version",
        _says("start `python -m efficientnet_tpu.launch.tpu_worker` there, from the same clone (docs/tpu.md)"),
    ),
    KnownError(
        "cuDNN does not start",
        r"DNN library is not found|CUDNN_STATUS_NOT_INITIALIZED|cuDNN failed to initialize|"
        r"Loaded runtime CuDNN library: .* but source was compiled with",
        "leondgarse/Keras_insightface#130, tensorflow/tensorflow#38929",
        "the GPU's driver is too old for TensorFlow's CUDA, another cuDNN is found first, or the GPU's memory is full",
        lambda: f"nvidia-smi; unset LD_LIBRARY_PATH; {install_command('gpu')}",
    ),
    KnownError(
        "libdevice is missing",
        r"libdevice not found at|Can't find libdevice directory",
        "tensorflow/tensorflow#50670, conda-forge/tensorflow-feedstock#420",
        "XLA needs a file of CUDA's compiler to compile for the GPU, and does not find CUDA's folder",
        lambda: f"{install_command('gpu')}; or XLA_FLAGS=--xla_gpu_cuda_data_dir=/usr/local/cuda",
    ),
    KnownError(
        "the GPU's driver is too old",
        r"CUDA driver version is insufficient|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|no kernel image is available",
        "tensorflow/tensorflow#47701",
        "the driver is older than TensorFlow's CUDA 12, or the GPU is older than its wheels are compiled for",
        _says("nvidia-smi shows the driver; install 525 or newer"),
    ),
    KnownError(
        "protobuf does not fit",
        r"Descriptors cannot (not )?be created directly|Detected (incompatible|mismatched) Protobuf Gencode/Runtime|"
        r"is not compatible with the installed version \(|requires version .* of the Protocol Buffer runtime|"
        r"cannot import name '(builder|runtime_version)' from 'google\.protobuf|"
        r"'(MessageFactory|SymbolDatabase)' object has no attribute 'GetPrototype'",
        "tensorflow/tensorflow#60460, tensorflow/tensorflow#98980, textual_inversion#91",
        "another package's installation has changed protobuf to a version that TensorFlow is not made for",
        _says("main.py doctor, which names the range and the command"),
    ),
    KnownError(
        "NumPy does not fit",
        r"A module that was compiled using NumPy|_ARRAY_API not found|numpy\.dtype (size changed|has the wrong size)|"
        r"numpy\._?core\.multiarray failed to import|compiled against NumPy C-API version|Numba needs NumPy|"
        r"module 'numpy' has no attribute '(object|bool|int)'",
        "tensorflow/tensorflow#90245, tensorflow/tensorflow#98406, nv-tlabs/vipe#42",
        "a compiled package was made for another major version of NumPy than the one that is installed",
        _says("main.py doctor, which names the range and the command"),
    ),
    KnownError(
        "TensorBoard is missing",
        r"TBNotInstalledError|TensorBoard is not installed|No module named 'tensorboard|"
        r"due to missing TensorBoard installation",
        "stared/livelossplot#152, tensorflow/tensorboard#2352",
        "TensorFlow 2.21 no longer brings it, and tf.summary needs it",
        _says("python -m pip install 'tensorboard>=2.19,<2.22'"),
    ),
    KnownError(
        "no right to the bucket",
        r"does not have (serviceusage|storage)\.[a-z]+\.[a-zA-Z]+ (access|permission)|HTTP response code 40[13]|"
        r"Anonymous caller does not have|AccessDeniedException: 403|Request had insufficient authentication scopes",
        "EleutherAI/gpt-neo#160, tensorflow/models#10976, GoogleCloudPlatform/practical-ml-vision-book#18, "
        "tensorflow/tpu#596",
        "the account that this machine works as may not read or write the bucket; a TPU VM works as its service "
        "account, which --service_account of `launch` chooses, with the scopes that it was created with",
        _says(
            "gcloud auth application-default login; or gcloud storage buckets add-iam-policy-binding gs://BUCKET "
            "--member=serviceAccount:ACCOUNT --role=roles/storage.objectAdmin"
        ),
    ),
    KnownError(
        "gs:// is not reached",
        r"All attempts to get a Google authentication bearer token failed|Could not locate the credentials file|"
        r"libcurl code (6|7|28|35|42|56) meaning|All [0-9]+ retry attempts failed",
        "waymo-research/waymax#5, tensorflow/datasets#2761, tensorflow/tensorflow#55816",
        "there are no credentials here, no network, or the clock is wrong",
        _says("gcloud auth application-default login; curl -sI https://storage.googleapis.com; date -u"),
    ),
    KnownError(
        "the bucket is not there",
        r"The specified bucket does not exist|HTTP response code 404 .*bucket|BucketNotFoundException",
        "nyu-dl/dl4marco-bert#19",
        "no bucket has this name, or it belongs to a project that you do not see",
        _says("gcloud storage ls; gcloud storage buckets create gs://BUCKET --location=REGION"),
    ),
    KnownError(
        "the quota is used up",
        r"Quota (limit )?'?[A-Za-z0-9_-]+'? (has been )?exceeded|QUOTA_EXCEEDED|quota metrics? exceed|"
        r"Quota exceeded for quota (metric|group)",
        "marin-community/marin#1612, fastai/course-v3#165, GoogleCloudPlatform/stable-diffusion-on-gcp#12",
        "the project may not have so many chips of this kind in the region; spot chips have a quota of their own",
        _says("raise it: console.cloud.google.com/iam-admin/quotas, service Cloud TPU API; or add or leave out --spot"),
        of_gcloud=True,
        lasting=True,
    ),
    KnownError(
        "no TPU is free in the zone",
        r"There is no more capacity in the zone|Insufficient (reserved )?capacity|ZONE_RESOURCE_POOL_EXHAUSTED|"
        r"does not have enough resources available",
        "thevasudevgupta/gsoc-wav2vec2#11, skypilot-org/skypilot#4579, GoogleCloudPlatform/ai-on-gke#849",
        "Google has none to give there now; a quota is no promise of one",
        _says("wait, which a queued resource does by itself; or another zone: gcloud compute tpus locations list"),
        of_gcloud=True,
    ),
    KnownError(
        "the API is not enabled",
        r"API has not been used in project .* before or it is disabled|SERVICE_DISABLED|API \[?[a-z.]+\]? not enabled",
        "kubeflow/kubeflow#1280, tensorflow/tpu#859",
        "the project has never used Cloud TPUs",
        _says("gcloud services enable tpu.googleapis.com --project=PROJECT"),
        of_gcloud=True,
        lasting=True,
    ),
    KnownError(
        "the zone has no such TPU",
        r"acceleratorTypes/[a-z0-9-]+'? was not found|accelerator ?[tT]ype .* (is not (available|supported)|not found)|"
        r"Invalid (value for field )?.?acceleratorType|[Ll]ocation [a-z0-9-]+ is not found|"
        r"Permission denied on 'locations/",
        "bsteuber/lizzie-gcloud-setup#6, fastai/course-v3#430",
        "this type is not offered in the zone, or the zone's name is mistyped",
        _says("gcloud compute tpus accelerator-types list --zone=ZONE; gcloud compute tpus locations list"),
        of_gcloud=True,
        lasting=True,
    ),
    KnownError(
        "no right to the project",
        r"PERMISSION_DENIED|[Rr]ead access to project .* was denied|Permission 'tpu\.[a-z.A-Z]+' denied|"
        r"not found or permission denied|linked to a free-trial billing account|billing (account|must be|is not) ",
        "tensorflow/tpu#227, tensorflow/tpu#284, tensorflow/tpu#124",
        "your account may not make TPUs in the project, the project is another one, or it has no billing",
        _says("gcloud config list; gcloud projects get-iam-policy PROJECT; roles/tpu.admin is what it takes"),
        of_gcloud=True,
        lasting=True,
    ),
    KnownError(
        "gcloud is not logged in",
        r"You do not currently have an active account selected|Reauthentication (failed|required)|"
        r"There was a problem refreshing your current auth tokens|gcloud auth login",
        "tensorflow/tpu#142",
        "gcloud has no account, or its login is over",
        _says("gcloud auth login"),
        of_gcloud=True,
        lasting=True,
    ),
)


class ExplainedError(UserError):
    """The end of a command by an error that is known, or for which a change of flags is known. Not bad input."""

    exit_status = 1


def recognized(text: str) -> KnownError | None:
    """Returns the known error that a message is; None for another one."""
    return next((known for known in KNOWN_ERRORS if re.search(known.pattern, text)), None)


def explanation(text: str) -> str:
    """Returns lines on the cause of an error's message and what to run, "" for one that is not known."""
    known = recognized(text)
    return f"{known.name}: {known.cause}.\n{advice(known.command())}" if known else ""


def advice(command: str) -> str:
    """Returns the line that says what to do."""
    return f"  try: {command}"


def message_chain(error: BaseException) -> str:
    """Returns an error's own message and those of the errors that it came from, one after the other."""
    messages: list[str] = []
    for one in _causes(error):
        if not any(str(one).endswith(message) for message in messages):  # TensorFlow wraps its own errors
            messages.append(f"{type(one).__name__}: {one}")
    return "\n".join(messages)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def explained(error: Exception, command: str = "") -> ExplainedError | None:
    """Returns the error to show in place of one that is known: its cause and command, the original below.

    command: in place of the known error's own. Returns None for an error that is not known.
    """
    original = message_chain(error)
    known = recognized(original)
    if known is None:
        return None
    return ExplainedError(f"{known.name}: {known.cause}.\n{advice(command or known.command())}\n\n{original}")


@contextlib.contextmanager
def explained_out_of_memory(command: Callable[[], str]) -> Iterator[None]:
    """Raises ExplainedError where memory runs out in this context. command: returns the flags that help, "" for those
    of the table.
    """
    try:
        yield
    except ExplainedError:  # an inner context knows better
        raise
    except Exception as error:
        known = recognized(message_chain(error))
        if known is None or known.name != OUT_OF_MEMORY:
            raise
        raise explained(error, command()) or error from error
