// SPDX-License-Identifier: Apache-2.0
// The namespace and the dispatch key that this library's operators are registered under. The CUDA
// operators over emulated kernels take CPU tensors, in a namespace of their own: a second
// implementation for one key would silently win.
#pragma once

#include <torch/csrc/stable/library.h>

#ifdef LTLSTM_EMULATED
#define LTLSTM_NAMESPACE ltlstm_emulated
#else
#define LTLSTM_NAMESPACE ltlstm
#endif

#ifdef LTLSTM_CUDA_BINDING
#define LTLSTM_KEY CUDA
#else
#define LTLSTM_KEY CPU
#endif

// A level between, for torch's own macros to see what the names above stand for.
#define LTLSTM_OPERATORS(space, m) STABLE_TORCH_LIBRARY(space, m)
#define LTLSTM_IMPLEMENT(space, key, m) STABLE_TORCH_LIBRARY_IMPL(space, key, m)
