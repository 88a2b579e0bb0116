# SPDX-License-Identifier: Apache-2.0
"""The equations of the H-LSTM's cell in Triton: the only copy in that language.

On float32 blocks, whatever the tensors are stored in. `csrc/cell.h` is the C++ copy, and
`ltlstm.reference` the one that both are compared with.

    a = phi(z)                      hidden layers of the gates: leaky ReLU, or ReLU
    i, f, o = s(z)   g = tanh(z)    c = f c' + i g    h = o tanh(c)
"""

import triton
import triton.language as tl


@triton.jit
def phi(z, slope, LEAKY: tl.constexpr):
    """The activation, ReLU unless LEAKY; NaN stays NaN, and ReLU of -inf is 0."""
    below = z * slope if LEAKY else tl.zeros_like(z)
    return tl.where(z <= 0, below, z)


@triton.jit
def phi_backward(da, a, slope, LEAKY: tl.constexpr):
    """The gradient of z, from that of a = phi(z): the sign of a is the sign of z."""
    below = da * slope if LEAKY else tl.zeros_like(da)
    return tl.where(a > 0, da, below)


@triton.jit
def sigmoid(z):
    return 1.0 / (1.0 + tl.exp(-z))


@triton.jit
def tanh(z):
    """By exp of what is not positive, so that nothing overflows; near 0, where 1 - e cancels, by
    the series, whose next term is below 1e-8 of z there."""
    e = tl.exp(-2.0 * tl.abs(z))
    large = (1.0 - e) / (1.0 + e)
    q = z * z
    near = tl.abs(z) * (1.0 + q * (-1.0 / 3 + q * (2.0 / 15 + q * (-17.0 / 315 + q * 62.0 / 2835))))
    size = tl.where(q < 0.0625, near, large)
    return tl.where(z < 0, -size, size)


@triton.jit
def cell_forward(z_i, z_f, z_g, z_o, c_prev):
    """Four pre-activations and the cell before -> i, f, g, o, c, h."""
    i = sigmoid(z_i)
    f = sigmoid(z_f)
    g = tanh(z_g)
    o = sigmoid(z_o)
    c = f * c_prev + i * g
    return i, f, g, o, c, o * tanh(c)


@triton.jit
def cell_backward(i, f, g, o, c_prev, c, dh, dc):
    """Gradients of the pre-activations i, f, g, o and of the cell before, from those of h and c."""
    tanh_c = tanh(c)
    dz_o = dh * tanh_c * o * (1.0 - o)
    dc += dh * o * (1.0 - tanh_c * tanh_c)
    dz_i = dc * g * i * (1.0 - i)
    dz_f = dc * c_prev * f * (1.0 - f)
    dz_g = dc * i * (1.0 - g * g)
    return dz_i, dz_f, dz_g, dz_o, dc * f
