# SPDX-License-Identifier: Apache-2.0
"""The sources keep the house rules, and the checker sees each rule broken."""

from pathlib import Path

import pytest

import layering

ROOT = Path(__file__).resolve().parents[1]
SPDX = "SPDX-License-Identifier: Apache-2.0"


@pytest.mark.parametrize("rule", layering.RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule):
    assert list(rule(ROOT)) == []


def test_every_folder_is_read():
    read = {path.relative_to(ROOT).parts[0] for path in layering.code_files(ROOT)}
    assert read == {"setup.py", *layering.FOLDERS}


def python_file(code: str) -> str:
    return f'# {SPDX}\n"""A file."""\n{code}\n'


def cpp_file(code: str) -> str:
    return f"// {SPDX}\n// A file.\n{code}\n"


@pytest.fixture
def tree(tmp_path):
    """A small tree like ours that breaks nothing."""
    files = {
        "setup.py": python_file(""),
        "pyproject.toml": f"# {SPDX}\n",
        "Makefile": f"# {SPDX}\n",
        ".ci/run": f"#!/usr/bin/env bash\n# {SPDX}\n",
        "csrc/cell.h": cpp_file("#include <cmath>"),
        "csrc/cpu/lanes.cpp": cpp_file('#include "cell.h"\n#include "cpu/lanes.h"'),
        "csrc/cuda/lanes.cu": cpp_file('#include "cell.h"\n#include <cuda_runtime.h>'),
        "csrc/binding/cpu.cpp": cpp_file("#include <torch/csrc/stable/tensor.h>"),
        "csrc/binding/build_facts.cpp": cpp_file("#include <pybind11/pybind11.h>"),
        "ltlstm_kernels/__init__.py": python_file("import torch"),
        "ltlstm_kernels/ops.py": python_file("import ltlstm_kernels"),
        "python/ltlstm/__init__.py": python_file("from ltlstm.modules.lstm import LSTM"),
        "python/ltlstm/reference/__init__.py": python_file("from ltlstm.reference.a import b"),
        "python/ltlstm/autograd.py": python_file("from ltlstm import reference"),
        "python/ltlstm/functional.py": python_file("from . import autograd"),
        "python/ltlstm/modules/lstm.py": python_file("from ..functional import lstm"),
        "python/ltlstm/recipes/train.py": python_file("import ltlstm, numpy, json"),
        "tests/test_a.py": python_file(""),
        "bench/a.py": python_file(""),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def broken(root: Path) -> list[str]:
    return [line for rule in layering.RULES for line in rule(root)]


def test_a_clean_tree_is_clean(tree):
    assert broken(tree) == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("csrc/cell.h", cpp_file("#include <torch/csrc/stable/tensor.h>"), "includes torch/"),
        ("csrc/cell.h", cpp_file('#include "cpu/lanes.h"'), "includes cpu/lanes.h"),
        ("csrc/cpu/lanes.cpp", cpp_file("  #  include <ATen/ATen.h>"), "includes ATen/"),
        ("csrc/cpu/lanes.cpp", cpp_file('#include "binding/tensors.h"'), "includes binding/"),
        ("csrc/cpu/lanes.cpp", cpp_file("#include <cuda_runtime.h>"), "includes cuda_runtime"),
        ("csrc/cuda/lanes.cu", cpp_file('#include "cpu/lanes.h"'), "includes cpu/lanes.h"),
        ("csrc/cuda/lanes.cu", cpp_file("#include <c10/util/Half.h>"), "includes c10/"),
        ("csrc/binding/cpu.cpp", cpp_file("#include <torch/extension.h>"), "includes torch/ext"),
        ("csrc/binding/cpu.cpp", cpp_file("#include <Python.h>"), "includes Python.h"),
        ("csrc/binding/build_facts.cpp", cpp_file("#include <torch/torch.h>"), "includes torch/"),
        ("csrc/other/a.cpp", cpp_file(""), "has no layer"),
        ("csrc/cpu/lanes.cu", cpp_file(""), "same stem as lanes.cpp"),
        ("ltlstm_kernels/ops.py", python_file("import ltlstm"), "imports ltlstm"),
        ("ltlstm_kernels/ops.py", python_file("import numpy"), "imports numpy"),
        (
            "python/ltlstm/reference/__init__.py",
            python_file("def f():\n    import ltlstm_kernels"),
            "imports ltlstm_kernels",
        ),
        (
            "python/ltlstm/autograd.py",
            python_file("from .functional import lstm"),
            "imports ltlstm.functional.lstm",
        ),
        (
            "python/ltlstm/functional.py",
            python_file("from ltlstm import modules"),
            "imports ltlstm.modules",
        ),
        (
            "python/ltlstm/functional.py",
            python_file("from ltlstm import LSTM"),
            "imports ltlstm.LSTM",
        ),
        (
            "python/ltlstm/modules/lstm.py",
            python_file("from ..recipes import train"),
            "imports ltlstm.recipes.train",
        ),
        (
            "python/ltlstm/__init__.py",
            python_file("import ltlstm.recipes"),
            "imports ltlstm.recipes",
        ),
        ("python/ltlstm/recipes/train.py", python_file("import torchaudio"), "imports torchaudio"),
        ("python/ltlstm/recipes/train.py", python_file("import tests"), "imports tests"),
        ("python/ltlstm/extra.py", python_file(""), "ltlstm.extra has no layer"),
        ("tests/test_a.py", python_file("\n" * 600), "603 lines"),
        ("bench/a.py", '"""A file."""\n', "no SPDX line"),
        (".ci/run", "#!/usr/bin/env bash\nset -e\n", "no SPDX line"),
        ("csrc/cell.h", f"// {SPDX}\n#include <cmath>\n", "does not open"),
        ("tests/test_a.py", f"# {SPDX}\nimport torch\n", "does not open"),
    ],
)
def test_a_planted_violation_is_found(tree, file, text, complaint):
    path = tree / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = broken(tree)
    assert len(found) == 1 and found[0].startswith(f"{file}: ") and complaint in found[0], found
