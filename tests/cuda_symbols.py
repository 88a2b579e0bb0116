# SPDX-License-Identifier: Apache-2.0
"""Looks up what the installed CUDA library takes from the CUDA part of torch.

`python cuda_symbols.py`, with a Python whose torch is a CUDA build: no function may be missing. The
loader leaves one that it does not find null, without a word, and a call of it jumps to nowhere.
Needs no GPU; nm is of binutils.
"""

import ctypes
import re
import subprocess
from pathlib import Path


def weak_functions(library: Path) -> list[str]:
    """The functions of torch that the library can be loaded without."""
    listing = subprocess.check_output(["nm", "-D", "--undefined-only", library], text=True)
    return re.findall(r"^\s*w (\w*torch_\w+)$", listing, re.M)


def not_found(library: Path) -> list[str]:
    """Those of them that the loaded library does not see, looked up where the loader looks."""
    handle = ctypes.CDLL(str(library))
    return [name for name in weak_functions(library) if not hasattr(handle, name)]


def main() -> None:
    import torch

    import ltlstm_kernels

    assert torch.version.cuda is not None, f"torch {torch.__version__} is no CUDA build"
    library = ltlstm_kernels.libraries()["_ops_cuda"]
    assert library.loaded and library.path is not None, library.error
    names, missing = weak_functions(library.path), not_found(library.path)
    print(f"cuda symbols: torch {torch.__version__} has {len(names) - len(missing)} of {names}")
    assert names and not missing, f"missing: {missing}"


if __name__ == "__main__":
    main()
