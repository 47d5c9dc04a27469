"""CRC-32C, the checksum in TFRecord files, for a few bytes: TensorFlow has it and lends it to nobody."""

import functools
import struct

ALL = 0xFFFFFFFF
POLYNOMIAL = 0x82F63B78  # Castagnoli's; bit 31 is the coefficient of x^0
_MASK_DELTA = 0xA282EAD8  # TFRecord stores checksums rotated by 15 bits, plus this
# The change that each of the 256 bytes makes to the checksum: eight steps of division by the polynomial.
_BYTE_TABLE = tuple(
    functools.reduce(lambda crc, _: crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0), range(8), byte) for byte in range(256)
)


def crc32c(data: bytes, crc: int = 0) -> int:
    """Returns the CRC-32C of `data`, or continues the checksum `crc` with it. For a few bytes: it is slow."""
    crc ^= ALL
    for byte in data:
        crc = crc >> 8 ^ _BYTE_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ ALL


def unmasked(stored: bytes) -> int:
    """Returns the checksum that a TFRecord file has stored in 4 bytes."""
    (masked,) = struct.unpack("<I", stored)
    rotated = (masked - _MASK_DELTA) & ALL
    return (rotated >> 17 | rotated << 15) & ALL
