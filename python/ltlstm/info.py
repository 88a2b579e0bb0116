# SPDX-License-Identifier: Apache-2.0
"""`python -m ltlstm.info`: versions, libraries, backends with what each lacks, CPU features.

What a bug report should carry. Works with any compiled library missing, `ltlstm_kernels._C` too.
"""

import platform
from collections.abc import Iterator

import torch

import ltlstm
import ltlstm_kernels
from ltlstm_kernels import build_info
from ltlstm_kernels.backend import BACKENDS, missing


def _versions() -> Iterator[tuple[str, str]]:
    yield "ltlstm", ltlstm.__version__
    yield "torch", torch.__version__
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    facts = build_info.build_facts()
    if facts:
        yield (
            "built with",
            f"torch {facts['torch_version']}, compiler {facts['compiler']}, "
            f"for torch >= {facts['torch_target']}",
        )


def _libraries() -> Iterator[tuple[str, str]]:
    for name, library in ltlstm_kernels.libraries().items():
        yield name, library.error or str(library.path)


def _backends() -> Iterator[tuple[str, str]]:
    for name in BACKENDS:
        if name != "auto":
            yield name, "; ".join(missing(name)) or "available"


def _cpu() -> Iterator[tuple[str, str]]:
    yield "threads", str(torch.get_num_threads())
    running = build_info.cpu_instruction_set()
    yield "kernels", running or "none: the library _ops_cpu is missing"
    if not ltlstm_kernels.libraries()["_C"].loaded:
        yield "features", "unknown: the library _C is missing"
        return
    features = build_info.cpu_features()
    yield "features", " ".join(name for name, there in features.items() if there) or "none known"


def report() -> str:
    """The whole report as text."""
    sections = {
        "versions": _versions(),
        "libraries": _libraries(),
        "backends": _backends(),
        "cpu": _cpu(),
    }
    lines = []
    for title, rows in sections.items():
        lines.append(title)
        lines += [f"  {name:<11} {value}" for name, value in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
