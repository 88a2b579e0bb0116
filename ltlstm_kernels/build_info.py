# SPDX-License-Identifier: Apache-2.0
"""What the compiled libraries know about the build and the CPU; nothing where they are missing."""

import ltlstm_kernels


def build_facts() -> dict[str, str | bool]:
    """compiler, torch_target, torch_version (built with) and cuda (was that library built)."""
    if not ltlstm_kernels.libraries()["_C"].loaded:
        return {}
    from ltlstm_kernels import _C

    return _C.build_facts()


def cpu_features() -> dict[str, bool]:
    """Instruction sets by name, true where this CPU and system offer them."""
    if not ltlstm_kernels.libraries()["_C"].loaded:
        return {}
    from ltlstm_kernels import _C

    return _C.cpu_features()


def cpu_instruction_set() -> str | None:
    """The one whose kernels run in this process, which LTLSTM_CPU_ISA may have narrowed: generic,
    avx2, avx512 or avx512bf16. None where `_ops_cpu` is missing."""
    library = ltlstm_kernels.libraries()["_ops_cpu"]
    return ltlstm_kernels.cpu_isa(library.path) if library.loaded and library.path else None
