"""The table of TPUs: published figures, and the shapes of slices."""

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, parse_slice


# Google's pages of the versions: peak of a chip in bfloat16, memory, bandwidth.
@pytest.mark.parametrize(
    ("kind", "tflops", "gib", "gbps"),
    [
        ("v3", 123, 32, 900),
        ("v4", 275, 32, 1228),
        ("v5e", 197, 16, 819),
        ("v5p", 459, 95, 2765),
        ("v6e", 918, 32, 1638),
    ],
)
def test_published_figures(kind, tflops, gib, gbps):
    generation = GENERATIONS[kind]
    assert (generation.peak_tflops, generation.hbm_gib, generation.hbm_gbps) == (tflops, gib, gbps)
    assert 0.95 < generation.usable_gib * generation.cores_per_chip / gib < 1.01


# Matrix units of a chip, as published. Each makes mxu_size^2 multiply-adds a cycle.
@pytest.mark.parametrize(("kind", "units"), [("v2", 2), ("v3", 4), ("v4", 8), ("v5e", 4), ("v5p", 8)])
def test_clocks_give_the_peaks(kind, units):
    generation = GENERATIONS[kind]
    peak = 2 * units * generation.mxu_size**2 * generation.clock_mhz * 1e6
    assert peak == pytest.approx(generation.peak_tflops * 1e12, rel=0.01)


@pytest.mark.parametrize(
    ("name", "chips", "cores", "hosts", "topology"),
    [
        ("v2-8", 4, 8, 1, "v2:2x2x1"),
        ("v3-32", 16, 32, 4, "v3:4x4x1"),
        ("v4-8", 4, 8, 1, "v4:2x2x1"),
        ("v4-16", 8, 16, 2, "v4:2x2x2"),
        ("v4-32", 16, 32, 4, "v4:2x2x4"),
        ("v5e-1", 1, 1, 1, "v5e:1x1"),
        ("v5e-8", 8, 8, 1, "v5e:2x4"),
        ("v5litepod-16", 16, 16, 4, "v5e:4x4"),
        ("v5p-8", 4, 4, 1, "v5p:2x2x1"),
        ("V6E-256", 256, 256, 64, "v6e:16x16"),
    ],
)
def test_slices(name, chips, cores, hosts, topology):
    found = parse_slice(name)
    assert (found.num_chips, found.num_cores, found.num_hosts, found.topology) == (chips, cores, hosts, topology)


@pytest.mark.parametrize("name", ["v7-8", "v3", "v5e-3", ""])
def test_what_google_does_not_have(name):
    with pytest.raises(UserError, match="There are v"):
        parse_slice(name)
