"""benchmarks/step_kernels.py: perf's report becomes shares of kinds of kernels."""

import importlib
import os
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

REPORT = """
# Overhead  Shared Object                 Symbol
    40.50%  [JIT] tid 21292               [.] jit_bnorm_bwd_t.458
    20.00%  [JIT] tid 21292               [.] jit_avx512_common_1x1_conv_kernel.291
    10.00%  [JIT] tid 21292               [.] jit_brgemm_kernel_t.44
    15.00%  [JIT] tid 21292               [.] jit_uni_dw_conv_bwd_data_kernel_f32.497
     9.00%  libc.so.6                     [.] __memmove_evex_unaligned_erms
     5.50%  [JIT] tid 21292               [.] 0x00007f847b54d1e9
"""


def test_shares_of_kinds(tf, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(os.environ, "ONEDNN_JIT_PROFILE", "")
    sys.modules.pop("step_kernels", None)
    lines = importlib.import_module("step_kernels").table(REPORT).splitlines()[2:]
    assert lines == [
        "| batch norm | 40 % |",
        "| other convolutions, products of matrices | 30 % |",
        "| depthwise convolutions | 15 % |",
        "| memory: copies, allocation, page faults | 9 % |",
        "| what is not known by name | 6 % |",
    ]
