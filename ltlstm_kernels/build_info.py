# SPDX-License-Identifier: Apache-2.0
"""What `ltlstm_kernels._C` knows about the build and the CPU; empty where `_C` is missing."""

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
