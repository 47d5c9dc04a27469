"""The processor and the memory of this machine, beside what a training takes."""

import os

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING, Finding
from efficientnet_tpu.hardware.cpu_features import BFLOAT16_INSTRUCTIONS, cpu_features
from efficientnet_tpu.hardware.host_memory import host_memory
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.training.memory import MemoryModel

SUBJECT = "machine"
_TO_IMPORT = 1.5e9  # bytes: TensorFlow, Keras and numba, with a small network


def check_processor(cpu_info: str = "/proc/cpuinfo") -> list[Finding]:
    """Returns the findings about the CPU's instructions. cpu_info: Linux' description of it; another one in tests."""
    features = cpu_features(cpu_info)
    if features is None or not features & {"flags", "Features"}:
        return []
    if "flags" in features and "avx" not in features:  # x86
        return [
            Finding(
                SUBJECT,
                ERROR,
                "the CPU has no AVX",
                "TensorFlow's wheels need it, and end by 'Illegal instruction' without; an emulator may hide it",
                "grep -c avx /proc/cpuinfo; in a virtual machine take the host's own CPU model",
            )
        ]
    has = [name for name in ("avx2", "fma", "avx512f", "avx512_vnni", "amx_tile", "asimd", "sve") if name in features]
    has += sorted(BFLOAT16_INSTRUCTIONS & features) or ["no bfloat16"]
    what = f"{os.cpu_count()} CPU cores with {', '.join(has)}"
    slow = "avx2" not in features and "asimd" not in features
    cause = "training on the CPU is several times slower without AVX2" if slow else ""
    return [Finding(SUBJECT, WARNING if slow else OK, what, cause)]


def check_memory(config: Config, on_accelerator: bool = False, root: str = "/") -> list[Finding]:
    """Returns the findings about memory. on_accelerator: a GPU or TPU computes. root: holds proc/ and sys/."""
    memory = host_memory(root)
    if memory is None:
        return [Finding(SUBJECT, NOTE, "the memory of this machine is not known", "the system does not tell")]
    there_is = f"{memory.num_bytes / 1e9:.1f} GB {memory.limited_by}"
    if memory.num_bytes < _TO_IMPORT:
        cause = f"TensorFlow alone takes about {_TO_IMPORT / 1e9:.1f} GB; the process would be killed without a word"
        return [Finding(SUBJECT, ERROR, there_is, cause, "ps aux --sort=-rss | head; or raise the container's limit")]
    if on_accelerator:
        return [Finding(SUBJECT, OK, there_is)]
    network = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    train_config, eval_batch_size = config.train, config.eval.eval_batch_size
    needed = MemoryModel(network, eval_batch_size).estimate(train_config).host
    what = (
        f"{there_is}; training {network.name} with {train_config.batch_size} images a step and {eval_batch_size} an "
        f"evaluation's is estimated at {needed / 1e9:.1f} GB"
    )
    if needed <= memory.num_bytes:
        return [Finding(SUBJECT, OK, what)]
    if train_config.train_batch_size is None:
        return [Finding(SUBJECT, NOTE, what, "--train_batch_size is left out: a smaller batch, which fits, is taken")]
    cause = f"--train_batch_size={train_config.train_batch_size} will be refused, with the changes that fit"
    command = "leave out --train_batch_size, or add --gradient_accumulation_steps=2 or --rematerialize=blocks"
    return [Finding(SUBJECT, WARNING, what, cause, command)]
