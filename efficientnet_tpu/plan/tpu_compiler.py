"""Google's TPU compiler on any machine: libtpu through JAX compiles for a slice that is not there.

It needs the extra `plan`. HLO goes in and figures come out, without TensorFlow.
"""

import dataclasses
import hashlib
import os
import re
import time
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tensorflow_startup import installed_version
from efficientnet_tpu.installation import environment_command, install_command
from efficientnet_tpu.plan import hlo_cost
from efficientnet_tpu.plan.hlo_cost import Compilation

# libtpu reads these when it is loaded. They keep it from asking a metadata server what machine this is, from refusing
# to load beside another program (no TPU is touched), and from logging about the hosts of a slice that is not there.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
# XLA's optimization_level by --plan_effort: its default, and O0. With O0 no value stays on the chip and the schedule is
# poor, but the program needs nearly the same memory.
_OPTIMIZATION_LEVELS = {"full": 0, "memory": 9}
# A program with more arguments takes them as one tuple. A TPU has a limit: v3 takes 3,293, and B7's step has 3,505.
_MAX_ARGUMENTS = 3000
# The compiler's messages on a program that is too large, now and formerly. The first gives the size of temporaries.
_TOO_LARGE = (
    r"memory required [^(]*\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)",
    r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm",
)


def prepare() -> None:
    """Sets libtpu's environment. Raises UserError if the extra is missing or cannot work here.

    Must be called before TensorFlow is imported.
    """
    if installed_version("tensorflow-tpu"):
        raise UserError(
            "plan --compile: tensorflow-tpu is installed here, whose libtpu is too old for the planner's JAX. Use an "
            f"environment of its own, on any machine: {environment_command('cpu', 'plan')}"
        )
    missing = [name for name in ("jax", "libtpu") if not installed_version(name)]
    if missing:
        raise UserError(
            f"plan --compile: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed. The TPU "
            f"compiler comes with the extra `plan`: {install_command('plan')}\n"
            "Without --compile, plan answers from the shipped table and a model fitted to it."
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def compiler_version() -> str:
    """Returns the compiler's name, by which results are labeled: 'libtpu 0.0.52, jax 0.10.2'."""
    return f"libtpu {installed_version('libtpu')}, jax {installed_version('jax')}"


class Program:
    """One core's program, ready to be compiled.

    key: the hash of what it computes, without names of places in the source.
    """

    def __init__(self, hlo: bytes):
        from jax._src.interpreters import mlir
        from jaxlib import xla_client
        from jaxlib.mlir import ir

        text = xla_client._xla.mlir.xla_computation_to_mlir_module(xla_client.XlaComputation(hlo))
        self._context = mlir.make_ir_context()
        with self._context:
            self.module = ir.Module.parse(text)
            _drop_copies(self.module.operation)
            self.module.operation.attributes["sym_name"] = ir.StringAttr.get("program")
            plain = self.module.operation.get_asm(enable_debug_info=False, large_elements_limit=None)
            num_arguments = len(ir.SymbolTable(self.module.operation)["main"].arguments)
            self._tupled = num_arguments > _MAX_ARGUMENTS
            if self._tupled:
                _alias_elements(self.module)
        self.key = hashlib.sha256(plain.encode()).hexdigest()

    def compile(self, topology: str, num_cores: int, compiler_effort: str = "full") -> Compilation:
        """Compiles for a topology such as v5e:2x4, and returns the program's figures.

        compiler_effort: see --plan_effort. With "memory" there are no costs. Raises UserError if the compiler refuses
        the program for another reason than its size.
        """
        try:
            with self._context:
                level = _OPTIMIZATION_LEVELS[compiler_effort]
                found = _compile(self.module, topology, num_cores, level, self._tupled)
                return (
                    found if compiler_effort == "full" else dataclasses.replace(found, bytes_accessed=0.0, costs=None)
                )
        except Exception as error:  # jaxlib's own class is private and has moved
            if type(error).__name__ not in ("XlaRuntimeError", "JaxRuntimeError"):
                raise
            return parse_refusal(str(error), topology)


def _compile(module: Any, topology_name: str, num_cores: int, optimization_level: int, tupled: bool) -> Compilation:
    """Compiles a module for the cores of a slice, and returns the program's figures."""
    import jaxlib._jax as jaxlib_core
    import numpy as np
    from jax.experimental import topologies
    from jaxlib import xla_client

    topology = topologies.get_topology_desc(platform="tpu", topology_name=topology_name)
    devices = tuple(topology.devices[:num_cores])
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = num_cores, 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.arange(num_cores).reshape(num_cores, 1))
    options.executable_build_options.optimization_level = optimization_level
    options.parameter_is_tupled_arguments = tupled
    executable = devices[0].client.compile(module, jaxlib_core.DeviceList(devices), options)
    memory = executable.get_compiled_memory_stats()
    analysis = executable.cost_analysis()
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    temp = memory.temp_size_in_bytes
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + temp
    return Compilation(
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temp_bytes=temp,
        code_bytes=memory.generated_code_size_in_bytes,
        flops=float(analysis["flops"]),
        bytes_accessed=float(analysis["bytes accessed"]),
        costs=hlo_cost.operation_costs(executable.hlo_modules()[0].to_string()),
        needed_bytes=needed + memory.generated_code_size_in_bytes,
    )


def _alias_elements(module: Any) -> None:
    """Rewrites the aliases of outputs and arguments for arguments that are elements of one tuple."""
    from jaxlib.mlir import ir

    number = re.compile(r"parameter_index = array<i64>, parameter_number = (\d+) : i64")
    aliases = str(module.operation.attributes["mhlo.input_output_alias"])
    of_tuple = number.sub(r"parameter_index = array<i64: \1>, parameter_number = 0 : i64", aliases)
    module.operation.attributes["mhlo.input_output_alias"] = ir.Attribute.parse(of_tuple)


def parse_refusal(message: str, topology: str) -> Compilation:
    """Parses the compiler's message on a program that does not fit. Raises UserError for any other message."""
    for pattern in _TOO_LARGE:
        if sizes := re.search(pattern, message):
            needed, limit = (
                int(float(number) * 2 ** {"K": 10, "M": 20, "G": 30}[unit])
                for number, unit in (sizes.group(1, 2), sizes.group(3, 4))
            )
            return Compilation(needed_bytes=needed, limit_bytes=limit)
    first = message.strip().partition("\n")[0]
    if "lockfile" in message or "already in use" in message:
        raise UserError(
            f"plan --compile: another program holds libtpu ({first}). Wait for it, or set ALLOW_MULTIPLE_LIBTPU_LOAD=1."
        )
    raise UserError(f"plan --compile: the TPU compiler ({compiler_version()}) refused {topology}: {first}")


def _drop_copies(operation: Any) -> None:
    """Replaces every mhlo.copy by its operand: the TPU's front end does not know the operation.

    TensorFlow puts it where variables are written.
    """
    for region in operation.regions:
        for block in region.blocks:
            for inner in list(block.operations):
                _drop_copies(inner.operation)
                if inner.operation.name == "mhlo.copy":
                    inner.operation.results[0].replace_all_uses_with(inner.operation.operands[0])
                    inner.operation.erase()


def compile_timed(program: Program, topology: str, num_cores: int, compiler_effort: str) -> tuple[Compilation, float]:
    """Returns the compilation and the CPU seconds of all threads that it took."""
    started = time.process_time()
    compilation = program.compile(topology, num_cores, compiler_effort)
    return compilation, time.process_time() - started
