# SPDX-License-Identifier: Apache-2.0
"""`python -m ltlstm.info` reports versions, libraries, backends and the CPU, with any missing."""

import re

import pytest
import torch

import ltlstm
import ltlstm_kernels
from child import instruction_sets, run_alone
from ltlstm import info
from ltlstm_kernels import backend, build_info
from package_copy import copy_packages, run_python


def rows(text: str) -> dict[str, str]:
    """The indented lines of a report by their first word or words."""
    return dict(re.findall(r"^  (\S+(?: \S+)?)\s{2,}(.+)$", text, re.M))


def test_report_names_versions_and_libraries():
    found = rows(info.report())
    assert found["ltlstm"] == ltlstm.__version__
    assert found["torch"] == torch.__version__
    for name, library in ltlstm_kernels.libraries().items():
        assert found[name] == (library.error or str(library.path))


def test_report_gives_every_backend_or_its_reason():
    found = rows(info.report())
    for name in set(backend.BACKENDS) - {"auto"}:
        assert found[name] == ("; ".join(info.missing(name)) or "available")
    assert found["cpu"] == found["aten"] == found["reference"] == "available"
    assert ("CUDA device" in found["cuda"]) == (not torch.cuda.is_available())


def test_build_facts_are_of_this_build():
    facts = build_info.build_facts()
    assert facts["torch_target"] == "2.10"
    assert facts["cuda"] == (ltlstm_kernels.libraries()["_ops_cuda"].path is not None)
    assert re.match(r"\d+\.\d+", str(facts["torch_version"]))


def test_cpu_features_agree_with_torch():
    """torch names one level; AVX-512 there means F, BW, DQ and VL, and implies AVX2 and FMA."""
    features = build_info.cpu_features()
    level = torch.backends.cpu.get_cpu_capability()
    if level in ("AVX2", "AVX512"):
        assert features["avx2"] and features["fma"]
    if level == "AVX512":
        assert all(features[name] for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl"))


@pytest.mark.parametrize("isa", instruction_sets())
def test_report_names_the_kernels_that_run(isa):
    run_alone(assert_kernels, isa, LTLSTM_CPU_ISA=isa)


def assert_kernels(isa):
    assert rows(info.report())["kernels"] == isa


def test_report_without_any_library(tmp_path):
    run = run_python(copy_packages(tmp_path, without="*"), "-m", "ltlstm.info")
    assert run.returncode == 0, run.stderr
    found = rows(run.stdout)
    assert found["_C"] == found["_ops_cpu"] == "not built"
    assert found["cpu"] == "the library _ops_cpu is missing: not built"
    assert found["aten"] == found["reference"] == "available"
    assert found["features"] == "unknown: the library _C is missing"
    assert found["kernels"] == "none: the library _ops_cpu is missing"
