# SPDX-License-Identifier: Apache-2.0
"""Whether a call is being captured in a graph that will run with other values, and other sizes."""

import torch

_MODES = torch._C._TorchDispatchModeKey
_CAPTURING = (_MODES.PROXY, _MODES.FAKE, _MODES.FUNCTIONAL)


def is_captured() -> bool:
    """By torch.compile, torch.export, make_fx, AOT autograd, fake tensors or torch.jit.trace.

    No value may be looked at then, and no size be a key or decide anything: it may be symbolic.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    if torch._C._dispatch_tls_is_dispatch_key_included(torch._C.DispatchKey.PreDispatch):
        return True
    if torch._C._len_torch_dispatch_stack() == 0:  # a look at each mode takes longer
        return False
    return any(torch._C._get_dispatch_mode(key) is not None for key in _CAPTURING)
