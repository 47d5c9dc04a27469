"""The cost of a compiled TPU program, read from its text: HBM traffic and the compiler's cycles by class of operation.

The text is scheduled HLO. It gives the layout of every value, with the tiles that pad it, and the memory it lives in:
`S(1)` is on the chip, and HBM has no such mark. What a fusion reads and writes in HBM is its traffic; what stays inside
it costs none. The text also gives the compiler's estimate of a fusion's cycles. Nothing here needs TensorFlow.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

_DTYPE_BITS = {"pred": 8, "bf16": 16, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64, "c128": 128}
_SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_OPCODE = re.compile(r" ([a-z][a-z0-9-]*)\(")
# These move nothing, or their traffic is counted at the other instruction of the pair.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "copy-done", "slice-done", "all-reduce-done"),
    *("after-all", "partition-id", "replica-id", "async-done", "while", "conditional", "opt-barrier"),
}
# The first pattern that matches an operation's name decides. Names contain the layer's name, from models/blocks.py.
OPERATION_CLASSES = (
    ("squeeze-excite", r"_se_"),
    ("depthwise", r"depthwise_conv|dwconv"),
    ("pointwise", r"(expand|project|head|top)_conv"),
    ("batch norm", r"_bn(_|/|$)"),
    ("stem", r"stem_conv|normalization"),
    ("swish", r"activation"),
    ("classifier and loss", r"classifier|predictions|softmax|pool|/dropout_1/|ArgMax|argmax"),
    ("residual and drop", r"_drop|_skip_pool|_add(_|/)"),
    ("all-reduce", r"XlaAllReduce|all-reduce"),
    ("optimizer and average", r"^(Sub|AddN|AssignSub|rm_sprop|RMS|ResourceApply|L2Loss|mul|sub|add)(_\d+)?(/|$)"),
)
OTHER = "copies and other"


@dataclass(frozen=True)
class Cost:
    """The cost of operations.

    hbm_bytes: bytes read and written, padded as in memory.
    cycles: the compiler's estimate, 0 where it makes none.
    """

    hbm_bytes: int = 0
    cycles: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.hbm_bytes + other.hbm_bytes, self.cycles + other.cycles)


@dataclass(frozen=True)
class Compilation:
    """The figures of one core's program for one execution, in bytes as the compiler lays them out, with padding.

    limit_bytes: 0 for a program that fits. For one that does not, only needed_bytes and limit_bytes are known.
    """

    argument_bytes: int = 0
    output_bytes: int = 0
    alias_bytes: int = 0  # outputs that take an argument's place
    temp_bytes: int = 0
    code_bytes: int = 0
    flops: float = 0.0
    bytes_accessed: float = 0.0  # by XLA's count, on-chip copies included
    costs: dict[str, Cost] | None = None  # by class of operation
    needed_bytes: int = 0
    limit_bytes: int = 0

    @property
    def fits(self) -> bool:
        """Returns whether the program fits the memory."""
        return not self.limit_bytes

    @property
    def hbm_bytes(self) -> int:
        """Returns the bytes that a step reads from HBM and writes to it."""
        return sum(cost.hbm_bytes for cost in (self.costs or {}).values())

    @property
    def cycles(self) -> int:
        """Returns the compiler's estimate of a step's cycles."""
        return sum(cost.cycles for cost in (self.costs or {}).values())


@dataclass(frozen=True)
class Value:
    """An array: its size in memory in bytes, padded to whole tiles, and whether that memory is HBM."""

    size: int
    in_hbm: bool

    @property
    def traffic(self) -> int:
        """Returns the bytes of HBM traffic for reading or writing the array once."""
        return self.size if self.in_hbm else 0


def operation_costs(text: str) -> dict[str, Cost]:
    """Returns the cost of one execution by class of operation. Every class has an entry, OTHER included."""
    computations = _computations(text)
    total: defaultdict[str, Cost] = defaultdict(Cost, {name: Cost() for name, _ in OPERATION_CLASSES} | {OTHER: Cost()})
    for name, cost in _walk(computations, "ENTRY"):
        total[name] += cost
    return dict(total)


def classify_operation(operation_name: str) -> str:
    """Returns the class of an operation by its name, such as model/block_1_depthwise_conv_1/depthwise."""
    return next((name for name, pattern in OPERATION_CLASSES if re.search(pattern, operation_name)), OTHER)


def parse_values(text: str) -> list[Value]:
    """Returns the arrays that a type names: bf16[32,16]{1,0:T(8,128)S(1)}, or a tuple of such types."""
    return [_value(*match) for match in _SHAPE.findall(text)]


def _value(dtype: str, dimensions: str, layout: str) -> Value:
    sizes = [int(size) for size in dimensions.split(",") if size]
    order, _, rest = layout.partition(":")
    tile = re.match(r"T\(([\d,]+)\)", rest)
    minor_first = [sizes[int(axis)] for axis in order.split(",") if axis] or sizes[::-1]
    if tile:
        for axis, length in enumerate(int(length) for length in reversed(tile[1].split(","))):
            if axis < len(minor_first):
                minor_first[axis] = -(-minor_first[axis] // length) * length
    bits = _DTYPE_BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 0)  # f32 and s8 name their size
    return Value(math.prod(minor_first) * bits // 8, not re.search(r"S\([1-9]", rest))


def _computations(text: str) -> dict[str, list[tuple[str, str]]]:
    """Returns (name, rest of the line) of every instruction, by computation. The entry's name is ENTRY."""
    found: dict[str, list[tuple[str, str]]] = {}
    lines: list[tuple[str, str]] = []
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            lines = found.setdefault("ENTRY" if head[1] else head[2], [])
        elif instruction := _INSTRUCTION.match(line):
            lines.append((instruction[1], instruction[2]))
    return found


def _walk(computations: dict[str, list[tuple[str, str]]], name: str) -> Iterator[tuple[str, Cost]]:
    """Yields (class, cost) of every instruction of a computation, bodies of loops as often as they run."""
    values: dict[str, list[Value]] = {}
    for instruction, line in computations[name]:
        opcode = _OPCODE.search(line)
        if not opcode:
            continue
        kind = opcode[1]
        inside, _, attributes = line[opcode.end() :].partition(")")
        operands = re.findall(r"%([^\s,()]+)", inside)
        values[instruction] = parse_values(line[: opcode.start() + 1])
        if kind == "while" and (body := re.search(r"body=%([^\s,]+)", attributes)):
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', attributes)
            yield from [*_walk(computations, body[1])] * (int(trips[1]) if trips else 1)
        if kind in _FREE:
            continue
        source = re.search(r'op_name="([^"]*)"', attributes)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', attributes)
        traffic = _traffic(kind, values[instruction], [values.get(operand, []) for operand in operands])
        named = "all-reduce" if kind.startswith("all-reduce") else classify_operation(source[1]) if source else OTHER
        yield named, Cost(traffic, int(cycles[1]) if cycles else 0)


def _traffic(kind: str, results: list[Value], operands: list[list[Value]]) -> int:
    """Returns the bytes that one instruction moves to and from HBM."""
    if kind == "copy-start":  # (destination, source, context)
        return sum(value.traffic for value in results[:2])
    if kind == "slice-start":  # ((source), destination, context): a slice reads as much of the source as it writes
        source, destination = results[0], results[1]
        return destination.traffic + (destination.size if source.in_hbm else 0)
    return sum(value.traffic for value in results) + sum(one.traffic for values in operands for one in values)
