# SPDX-License-Identifier: Apache-2.0
"""What one call of a stack is given and gives back, and the checks on what it is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from ltlstm.functional.checks import check_pair, check_reset, require_tensor
from ltlstm_kernels.measured import Sizes
from ltlstm_kernels.plan import Shape

# The tensors a compiled operator sees whole; the fakes stand for them under torch.export.
_PLAIN = (Tensor, torch.nn.Parameter, FakeTensor, FunctionalTensor)

Shapes = tuple[tuple[int, ...], ...]


class Flags(NamedTuple):
    """Which weights exist: the keyword arguments of the operators and of the reference."""

    bias: bool
    projected: bool
    peephole: bool
    bidirectional: bool

    @property
    def dirs(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def per_cell(self) -> int:
        """Tensors of one cell in the flat list."""
        return 2 + 2 * self.bias + self.projected + self.peephole


@dataclass(slots=True)
class Problem:
    """One call. ``*`` is (T, N), or (S,) for packed data; letters as in ltlstm.reference."""

    op: str
    input: Tensor  # (*, D)
    h0: Tensor  # (L*dirs, N, P)
    c0: Tensor  # (L*dirs, N, H)
    weights: Sequence[Tensor]
    flags: Flags
    batch_sizes: Tensor | None  # (T,), of packed data
    lengths: Tensor | None  # (N,), of padded data; the reference's alone, others get it packed
    reset: Tensor | None  # (*), bool
    traj_weights: Sequence[Tensor] = ()
    contexts: Sequence[Tensor] = ()
    depth_unit: str = "lstm"
    lanes: bool | None = None  # side by side, or as the plan has it
    gate_layers: int = 0  # hidden layers in a gate, J; 0 is the plain cell
    slope: float = 0.0  # of the gates' activation below zero
    gate_masks: Tensor | None = None  # (L*dirs*J, *, 4K)
    compiled: Sequence[Tensor] = ()  # instead of weights, of which then only sizes matter
    fresh: bool = False  # no hx was given: h0 and c0 are zeros
    masks: list[Tensor] = field(default_factory=list)
    dropout: float = 0.0  # for aten, which draws its own masks; others get `masks`
    backend: str = "reference"
    states: bool = False  # the caller asked for the states of every step
    save: bool = False  # those, or what gradients need

    @property
    def layers(self) -> int:
        return self.h0.shape[0] // self.flags.dirs

    @property
    def width(self) -> int:
        """Output size of a layer, both directions."""
        return self.h0.shape[2] * self.flags.dirs

    def weight_shapes(self) -> Shapes:
        """What the flat list must hold."""
        D, H = self.input.shape[-1], self.c0.shape[2]
        if self.gate_layers:
            rows, rest = self.weights[0].shape[0], self._rest_of_gates(H)
            out = H
        else:
            out = self.h0.shape[2] if self.flags.projected else H
            rows, rest = 4 * H, self._rest_of_cell(H, out)
        expected = ((rows, D), *rest) * self.flags.dirs
        if len(self.weights) > len(expected):
            above = (rows, out * self.flags.dirs)
            expected += (above, *rest) * self.flags.dirs * (self.layers - 1)
        return expected

    def _rest_of_cell(self, H: int, out: int) -> Shapes:
        """What follows w_ih in a cell's group."""
        rest: Shapes = ((4 * H, out),)
        if self.flags.bias:
            rest += ((4 * H,), (4 * H,))
        if self.flags.projected:
            rest += ((out, H),)
        if self.flags.peephole:
            rest += ((3, H),)
        return rest

    def _rest_of_gates(self, H: int) -> Shapes:
        """The same where gates are MLPs: each gate's last layer has H outputs, the others K."""
        bias, K = self.flags.bias, self.weights[0].shape[0] // 4
        rest: Shapes = ((4 * K, H), (4 * K,))[: 1 + bias]
        for outputs in (K,) * (self.gate_layers - 1) + (H,):
            rest += ((4, outputs, K), (4, outputs))[: 1 + bias]
        return rest

    def sizes(self, gradients: bool) -> Sizes:
        """As the tables of measurements count them."""
        T = (self.input if self.batch_sizes is None else self.batch_sizes).shape[0]
        states, N, H = self.c0.shape
        return Sizes(T, N, H, states // self.flags.dirs, gradients)

    def shape(self, sizes: Sizes) -> Shape:
        """As the launch plan counts it."""
        return Shape(
            *sizes[:3], self.h0.shape[2], sizes.L, self.flags.dirs, sizes.gradients,
            len(self.traj_weights) > 0,
        )  # fmt: skip

    def tensors(self) -> list[Tensor]:
        """Everything floating-point that the caller gave."""
        return [
            self.input, self.h0, self.c0, *self.weights, *self.traj_weights, *self.contexts
        ]  # fmt: skip


@dataclass(slots=True)
class Result:
    """The first three, and the states of every step where the caller asked for them."""

    output: Tensor  # (*, width)
    h_n: Tensor
    c_n: Tensor
    hidden: Tensor | None = None  # (L, *, dirs*P)
    cells: Tensor | None = None  # (L*dirs, *, H)
    g: Tensor | None = None  # (L, *, Q)
    m: Tensor | None = None  # (L, *, G)


def python_only(tensors: Sequence[Tensor]) -> str | None:
    """Why an operator would not see the whole call; a bare operator gives a zero tangent under jvp
    with no error."""
    # Not peek_interpreter_stack(): compared with None, it is always true under torch.compile.
    if torch._C._are_functorch_transforms_active():
        return "a torch.func transform is active"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    for tensor in tensors:
        kind = type(tensor)
        if kind in _PLAIN:
            continue
        # A class that only has a __torch_function__ gets the operator as one function, from torch.
        if kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return f"{kind.__name__} is a tensor subclass with a __torch_dispatch__ of its own"
        if is_per_sample([tensor]):
            return "call_for_per_sample_grads knows no operator of this package"
    return None


def is_per_sample(weights: Sequence[Tensor]) -> bool:
    """Whether call_for_per_sample_grads gave the weights. They take linear and torch.lstm only."""
    from torch.nn.utils._expanded_weights.expanded_weights_impl import ExpandedWeight

    return any(type(w) is ExpandedWeight for w in weights)


def initial_state(
    op: str, input: Tensor, hx: tuple[Tensor, Tensor] | None, weights: Sequence[Tensor],
    flags: Flags, batch_sizes: Tensor | None, gate_layers: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(h0, c0) as given, or zeros; the shape of the flat list is checked on the way."""
    per_cell = flags.per_cell
    if gate_layers:
        per_cell = 2 + flags.bias + gate_layers * (1 + flags.bias)
    group = per_cell * flags.dirs
    if len(weights) == 0 or len(weights) % group:
        raise ValueError(
            f"{op}: weights must hold a positive multiple of {group} tensors, got {len(weights)}"
        )
    expected = 3 if batch_sizes is None else 2
    if input.dim() != expected:
        raise RuntimeError(f"{op}: input must have {expected} dimensions, got {input.dim()}")
    if (input if batch_sizes is None else batch_sizes).shape[0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")  # nn.LSTM's text
    w_ih, w_hh = weights[0].shape, weights[1].shape
    for i, shape in ((0, w_ih), (1, w_hh)):
        if len(shape) != 2:
            raise RuntimeError(f"{op}: weights[{i}] must have 2 dimensions, got {len(shape)}")
    states = len(weights) // per_cell
    P = w_hh[1]
    H = P if gate_layers else w_ih[0] // 4
    if hx is None:
        # Not int(batch_sizes[0]): torch.jit.trace would keep its value.
        N: Any = input.shape[1] if batch_sizes is None else batch_sizes[0]
        return input.new_zeros(states, N, P), input.new_zeros(states, N, H)
    check_pair(op, hx)
    h0, c0 = hx
    N = input.shape[1] if batch_sizes is None else h0.shape[1]
    for name, state, width in (("h0", h0, P), ("c0", c0, H)):
        if state.shape != (states, N, width):
            raise RuntimeError(
                f"{op}: {name} must have shape {(states, N, width)}, got {tuple(state.shape)}"
            )
    return h0, c0


def check(p: Problem, tensors: Sequence[Tensor], autocast: bool) -> None:
    """Devices and dtypes of all ``tensors`` agree; reset and lengths fit the input."""
    device, dtype = p.input.device, p.input.dtype
    if not dtype.is_floating_point:
        raise ValueError(f"{p.op}: input must be floating-point, got {dtype}")
    for tensor in tensors:
        if tensor.device != device or (tensor.dtype != dtype and not autocast):
            _refuse(p, tensor)
    _check_shapes(p)
    if p.batch_sizes is not None:
        sizes = p.batch_sizes
        if sizes.dtype != torch.int64 or sizes.dim() != 1 or sizes.device.type != "cpu":
            raise ValueError(
                f"{p.op}: batch_sizes must be int64 of shape (T,) on the CPU, got {sizes.dtype} of "
                f"shape {tuple(sizes.shape)} on {sizes.device}"
            )
    require_tensor(p.op, "lengths", p.lengths)
    if p.reset is not None:
        check_reset(p.op, p.reset, p.input)
    if p.lengths is not None:
        if p.batch_sizes is not None:
            raise ValueError(f"{p.op}: lengths must be None for packed input, got a tensor")
        integers = not (p.lengths.is_floating_point() or p.lengths.is_complex())
        if not integers or p.lengths.dtype == torch.bool or p.lengths.shape != p.input.shape[1:2]:
            raise ValueError(
                f"{p.op}: lengths must be integers of shape {tuple(p.input.shape[1:2])}, got "
                f"{p.lengths.dtype} of shape {tuple(p.lengths.shape)}"
            )


def _refuse(p: Problem, tensor: Tensor) -> None:
    """Raises for a tensor whose device or dtype is not the input's, in nn.LSTM's words if any."""
    device = p.input.device
    if p.weights[0].device != device:
        raise RuntimeError(
            "Input and parameter tensors are not at the same device, found input tensor at "
            f"{device} and parameter tensor at {p.weights[0].device}"
        )
    for state in (p.h0, p.c0):
        if state.device != device:
            raise RuntimeError(
                "Input and hidden tensors are not at the same device, found input tensor at "
                f"{device} and hidden tensor at {state.device}"
            )
    if tensor.device != device:
        raise RuntimeError(f"{p.op}: weights must be on {device}, got {tensor.device}")
    name = "hx" if tensor is p.h0 or tensor is p.c0 else "weights"
    raise RuntimeError(f"{p.op}: {name} must have dtype {p.input.dtype}, got {tensor.dtype}")


def _check_shapes(p: Problem) -> None:
    """The time lane's weights: torch's own LSTM reads past the end of those that are too small."""
    expected = p.weight_shapes()
    if tuple([weight.shape for weight in p.weights]) == expected:
        return
    unit = "K" if p.gate_layers else "H"
    for i, (weight, shape) in enumerate(zip(p.weights, expected, strict=True)):
        if weight.shape != shape:
            raise RuntimeError(
                f"{p.op}: weights[{i}] must have shape {shape}, got {tuple(weight.shape)} ({unit} "
                f"= {p.weights[0].shape[0] // 4} after weights[0] of shape "
                f"{tuple(p.weights[0].shape)})"
            )


def check_values(p: Problem) -> None:
    """The values of lengths and batch_sizes: a look that no trace and no transform can take."""
    if p.lengths is not None and p.lengths.numel():
        T, least, most = p.input.shape[0], int(p.lengths.min()), int(p.lengths.max())
        if least < 0 or most > T:
            raise ValueError(f"{p.op}: lengths must lie in 0..{T}, got {least}..{most}")
    if p.batch_sizes is not None:
        sizes, S, N = p.batch_sizes.tolist(), p.input.shape[0], p.c0.shape[1]
        falling = all(above >= below for above, below in zip(sizes, sizes[1:], strict=False))
        if sizes[0] != N or not falling or sizes[-1] < 0 or sum(sizes) != S:
            raise ValueError(
                f"{p.op}: batch_sizes must fall from {N} rows and sum to the {S} of the data, got "
                f"{sizes[0]} to {sizes[-1]}, in all {sum(sizes)}{'' if falling else ', rising'}"
            )
