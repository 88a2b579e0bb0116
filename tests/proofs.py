# SPDX-License-Identifier: Apache-2.0
"""What `make prove` runs and `make test` leaves out: here stands which tests, and nowhere else.

They take minutes, and a change of one part seldom reaches them: sanitizers and planted defects,
code for other processors and sizes of production, whole compilers, processes of their own.
`python tests/proofs.py` prints the environments in which the numbers are proved once more.
"""

import pytest

# By file; of a file with names, those tests only.
PROVE: dict[str, tuple[str, ...]] = {
    # sanitizers and planted defects
    "test_sanitizers": (),
    "test_cuda_defects": (),
    "test_emulator": (),
    "test_emulator_defects": (),
    "test_cuda_kernels": ("test_sanitizers_have_nothing_to_say", "test_production_tiling"),
    "test_cuda_streamed": ("test_sanitizers_have_nothing_to_say",),
    "test_cuda_binding": ("test_a_production_tiling", "test_values_and_gradients"),
    # processors and GPUs that are not this one
    "test_cpu_isa": ("test_no_code_is_shared_between_instruction_sets",),
    "test_lstm_bfloat16": ("test_each_instruction_set",),
    "test_cuda_resources": (),
    "test_cuda_ptx": ("test_it_assembles",),
    "test_triton_compiled": (),
    # threads, forks and runs in processes of their own
    "test_cpu_threads": (),
    "test_recipe_run": ("test_killed_and_interrupted_runs_go_on_to_the_same_bits",),
    # compilers, of torch and of C++
    "test_jit_trace": ("test_a_program_of_cpp",),
    "test_lstm_transforms": ("test_compile_by_inductor", "test_new_sizes_do_not_compile_again"),
    "test_bench_gpu_hops": (),
    "test_features_files": ("test_one_aot_inductor_package_serves_any_size",),
    "test_operators_compile": (
        "test_opcheck_forward",
        "test_opcheck_backward",
        "test_inductor_trains",
        "test_aot_inductor_package",
    ),
    # many examples, each input of a Jacobian, and tens of thousands of steps
    "test_h_lstm_autograd": (
        "test_every_instruction_set",
        "test_more_threads_than_cores",
        "test_gradgradcheck_of_one_output",
        "test_opcheck_forward",
        "test_opcheck_backward",
    ),
    "test_operators_gradients": ("test_gradgradcheck_of_one_output",),
    "test_batched_gradients": ("test_gradcheck_with_batches",),
    "test_property": (),
    "test_features_large": (),
}


def is_proof(item: pytest.Item) -> bool:
    names = PROVE.get(item.path.stem)
    return names is not None and (not names or getattr(item, "originalname", "") in names)


def environments() -> list[str]:
    """Machines with narrower instruction sets than this one, by our kernels and by torch's own."""
    from child import instruction_sets

    sets = list(instruction_sets())
    found = ["LTLSTM_CPU_ISA=generic"] if sets[-1] != "generic" else []
    if "avx512" in sets:
        found.append("LTLSTM_CPU_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2")
    return found


if __name__ == "__main__":
    for settings in environments():
        print(settings)
