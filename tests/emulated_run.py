# SPDX-License-Identifier: Apache-2.0
"""`LTLSTM_BACKEND=emulated python -m pytest`: tests of the modules over the real CUDA binding.

The CUDA operators on emulated kernels stand in the place of the CPU's (emulated_library.py), and
half types are computed as on a GPU. Here, and nowhere else, stands which tests run so and why the
others of their files do not. One that runs without calling the emulated library fails. The same
tests run on a GPU (default_device.py).
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from cases import Case

ASKED = os.environ.get("LTLSTM_BACKEND") == "emulated"
STANDS_IN = "cpu"  # the backend whose operators are replaced

FILES = {
    "test_cells.py",
    "test_features_lengths.py",
    "test_features_training.py",
    "test_lstm.py",
    "test_lstm_parity.py",
    "test_lt_lstm.py",
    "test_lt_lstm_stream.py",
    "test_operators.py",
    "test_operators_gradients.py",
    "test_operators_robust.py",
    "test_residual_lstm.py",
}

NO_FLOAT64 = "there is no float64 on a GPU"
NO_CALL = "no operator is called"
NOT_OURS = "it names another backend"
NO_PLAN = "no plan has a projection as wide as the layer"
# By the name of the test, its parameters given where only they are meant.
REASONS = {
    "test_a_dropout_that_cannot_act_warns_as_torch_does": NO_CALL,
    "test_a_start_leaves_the_warnings_of_others_alone": NO_CALL,
    "test_copies_compute_the_same": NOT_OURS,
    "test_functional_call_and_tied_weights": NO_FLOAT64,
    "test_gradcheck": NO_FLOAT64,
    "test_gradgradcheck": NO_FLOAT64,
    "test_gradgradcheck_of_one_output": NO_FLOAT64,
    "test_gradients_flow_through_a_stream": NO_FLOAT64,
    "test_half_precision_on_the_cpu_is_computed_in_float": "a GPU computes half types as they are",
    "test_lstm_cell_refuses_in_torchs_words": NO_CALL,
    "test_lstm_cell_sizes_are_torchs": NO_CALL,
    "test_lstm_cell_trains_compiled_and_differentiates_twice": NO_FLOAT64,
    "test_lt_lstm_cell_refuses": NO_CALL,
    "test_masks_are_torchs_bit_for_bit": NO_CALL,
    "test_module_feeds_the_reference_as_its_names_say": NO_FLOAT64,
    "test_modules_work_without_the_operators": NOT_OURS,
    "test_more_steps_than_sixteen_bits_hold": "65,600 steps take a minute on the emulator",
    "test_nn_lstm_checkpoint_warm_starts[{'peephole': True}]": NO_CALL,
    "test_normal_use_warns_of_nothing": NO_FLOAT64,
    "test_repr_names_what_is_unusual": NO_CALL,
    "test_same_seed_same_weights": NO_CALL,
    "test_second_derivative_agrees_with_the_reference": NO_FLOAT64,
    "test_second_derivative_of_tied_weights": NO_FLOAT64,
    "test_start_and_names_are_nn_lstms": NO_CALL,
    "test_states_that_would_broadcast": NO_CALL,
    "test_state_dicts_interchange_byte_for_byte": NO_CALL,
}


def reason_against(item: pytest.Item) -> str | None:
    """Why a test of FILES does not run on emulated kernels; None if it does."""
    for name in (item.name, getattr(item, "originalname", None)):
        if name in REASONS:
            return REASONS[name]
    call = getattr(item, "callspec", None)
    given = call.params if call else {}
    if torch.float64 in [value for value in given.values() if isinstance(value, torch.dtype)]:
        return NO_FLOAT64
    if given.get("backend") in ("reference", "aten"):
        return NOT_OURS
    case = given.get("case")
    return NO_PLAN if isinstance(case, Case) and case.P >= case.H else None


@contextmanager
def in_place_of_the_cpu() -> Iterator[Counter[str]]:
    """Inside, a module on the CPU computes as it would on a GPU; yields what is called."""
    from emulated_library import emulated
    from ltlstm.functional import run

    choose = run.choose

    def as_on_a_gpu(backend: str | None, asked: Any) -> str:
        chosen = choose(backend, asked)
        return "cuda" if chosen == STANDS_IN else chosen

    with emulated() as calls, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "choose", as_on_a_gpu)
        patch.setenv("LTLSTM_BACKEND", STANDS_IN)
        yield calls
