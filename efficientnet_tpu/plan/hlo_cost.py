"""What a compiled TPU program costs, read from its text: HBM traffic and the compiler's cycles, by class of operation.

The text is scheduled HLO. Of every value it says the layout, with the tiles that pad it, and the memory it lives in:
`S(1)` is on the chip; without such a mark it is HBM. What a fusion reads and writes there is its traffic; what it keeps
to itself costs none. Of a fusion it also says the cycles that the compiler reckons with. No TensorFlow.
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
# Move nothing, or move what another instruction of the pair is charged with.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "copy-done", "slice-done", "all-reduce-done"),
    *("after-all", "partition-id", "replica-id", "async-done", "while", "conditional", "opt-barrier"),
}
# By name of the layer that an operation's name holds, first match; blocks.py gives the names.
CLASSES = (
    ("squeeze-excite", r"_se_"),
    ("depthwise", r"depthwise_conv|dwconv"),
    ("pointwise", r"(expand|project|head|top)_conv"),
    ("batch norm", r"_bn(_|/|$)"),
    ("stem", r"stem_conv|normalization"),
    ("swish", r"activation"),
    ("classifier and loss", r"classifier|predictions|softmax|pool|/dropout_1/|ArgMax|argmax"),
    ("residual and drop", r"_drop|_add(_|/)"),
    ("all-reduce", r"XlaAllReduce|all-reduce"),
    ("optimizer and average", r"^(Sub|AddN|AssignSub|rm_sprop|RMS|ResourceApply|L2Loss|mul|sub|add)(_\d+)?(/|$)"),
)
OTHER = "copies and other"


@dataclass(frozen=True)
class Cost:
    """hbm_bytes: read and written, padded as in memory; cycles: the compiler's estimate, where it makes one."""

    hbm_bytes: int = 0
    cycles: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.hbm_bytes + other.hbm_bytes, self.cycles + other.cycles)


@dataclass(frozen=True)
class Compilation:
    """What one core's program takes and does in one execution; bytes as the compiler lays them out, padding included.

    Of a program that does not fit, only needed_bytes and limit_bytes are known; else the latter is 0.
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
    """One array: its size in memory, padded to whole tiles, and whether that memory is HBM."""

    size: int
    in_hbm: bool

    @property
    def traffic(self) -> int:
        return self.size if self.in_hbm else 0


def costs(text: str) -> dict[str, Cost]:
    """Cost of one execution by class of operation; every class is there, `other` too."""
    computations = _computations(text)
    total: defaultdict[str, Cost] = defaultdict(Cost, {name: Cost() for name, _ in CLASSES} | {OTHER: Cost()})
    for name, cost in _walk(computations, "ENTRY"):
        total[name] += cost
    return dict(total)


def class_of(operation_name: str) -> str:
    """The class of an operation by its name in the source, such as model/block_1_depthwise_conv_1/depthwise."""
    return next((name for name, pattern in CLASSES if re.search(pattern, operation_name)), OTHER)


def values_of(text: str) -> list[Value]:
    """The arrays that a type names: bf16[32,16]{1,0:T(8,128)S(1)}, or a tuple of such."""
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
    return Value(math.prod(minor_first) * _bits(dtype) // 8, not re.search(r"S\([1-9]", rest))


def _bits(dtype: str) -> int:
    return _DTYPE_BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 0)


def _computations(text: str) -> dict[str, list[tuple[str, str]]]:
    """Name -> (name, rest of the line) of its instructions; the entry's name is ENTRY."""
    found: dict[str, list[tuple[str, str]]] = {}
    lines: list[tuple[str, str]] = []
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            lines = found.setdefault("ENTRY" if head[1] else head[2], [])
        elif instruction := _INSTRUCTION.match(line):
            lines.append((instruction[1], instruction[2]))
    return found


def _walk(computations: dict[str, list[tuple[str, str]]], name: str) -> Iterator[tuple[str, Cost]]:
    """(class, cost) of every instruction of a computation, bodies of loops as often as they run."""
    values: dict[str, list[Value]] = {}
    for instruction, line in computations[name]:
        opcode = _OPCODE.search(line)
        if not opcode:
            continue
        kind, operands, attributes = opcode[1], *_operands(line[opcode.end() :])
        values[instruction] = values_of(line[: opcode.start() + 1])
        if kind == "while" and (body := re.search(r"body=%([^\s,]+)", attributes)):
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', attributes)
            yield from [*_walk(computations, body[1])] * (int(trips[1]) if trips else 1)
        if kind in _FREE:
            continue
        source = re.search(r'op_name="([^"]*)"', attributes)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', attributes)
        traffic = _traffic(kind, values[instruction], [values.get(operand, []) for operand in operands])
        named = "all-reduce" if kind.startswith("all-reduce") else class_of(source[1]) if source else OTHER
        yield named, Cost(traffic, int(cycles[1]) if cycles else 0)


def _operands(text: str) -> tuple[list[str], str]:
    """The names inside the parentheses that text continues, and what follows them."""
    inside, _, after = text.partition(")")
    return re.findall(r"%([^\s,()]+)", inside), after


def _traffic(kind: str, results: list[Value], operands: list[list[Value]]) -> int:
    if kind == "copy-start":  # (destination, source, context)
        return sum(value.traffic for value in results[:2])
    if kind == "slice-start":  # ((source), destination, context): of the source, as much as the destination
        source, destination = results[0], results[1]
        return destination.traffic + (destination.size if source.in_hbm else 0)
    return sum(value.traffic for value in results) + sum(one.traffic for values in operands for one in values)
