# SPDX-License-Identifier: Apache-2.0
"""Builds the operator libraries and the `_C` module; everything else stands in pyproject.toml.

`_ops_cpu` and `_ops_cuda` are plain shared libraries on the libtorch stable ABI: they link no
Python and serve every torch from kTorchTarget on. `_C` is a pybind11 module for what is no tensor
operator. Nothing here looks for a GPU, reaches the network or changes the installed torch.
LTLSTM_CUDA=0 leaves the CUDA library out, LTLSTM_CUDA=1 insists on it; unset, it is built where
nvcc is and torch is a CUDA build. TORCH_CUDA_ARCH_LIST, as for any torch extension, names other
architectures. ccache is used where it is, for g++ by torch (from 2.13 on).
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from math import inf
from pathlib import Path

from setuptools import Extension, find_packages, setup

try:
    import pybind11
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"ltlstm: its build finds no {missing.name} (a plain `pip install .` hides what is "
        "installed). Where torch >= 2.10 is, type: pip install 'setuptools>=77' 'pybind11>=2.13' "
        "ninja && pip install --no-build-isolation ."
    ) from None

ROOT = Path(__file__).resolve().parent
CSRC = str(ROOT / "csrc")  # absolute: ninja runs in the build folder
TORCH_TARGET = (2, 10)
CUDA_ARCHITECTURES = "8.0;9.0a"
CXX_FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread", "-g0"]
# Paths below this folder are as good as relative, so that another checkout finds what is cached.
os.environ.setdefault("CCACHE_BASEDIR", str(ROOT))
# GCC 12 takes an empty std::optional of a shared pointer for an uninitialised one.
CXX_FLAGS += ["-Wno-maybe-uninitialized"]
# As system headers torch's own are not warned about.
CXX_FLAGS += [f"-isystem{path}" for path in include_paths()]


def sources(*patterns: str) -> list[str]:
    """Source files relative to the root, sorted: a new file is compiled without an edit here."""
    found = (glob(pattern, root_dir=ROOT, recursive=True) for pattern in patterns)
    return sorted(set().union(*found))


def cuda_home() -> str | None:
    """The toolkit's folder: CUDA_HOME if set, else that of the nvcc on the path, else the usual."""
    nvcc = shutil.which("nvcc")
    guesses = [str(Path(nvcc).resolve().parents[1])] if nvcc else []
    guesses.append("/usr/local/cuda")
    named = os.environ.get("CUDA_HOME")
    for home in [named] if named else guesses:
        if Path(home, "bin", "nvcc").exists() and Path(home, "include", "cuda_runtime.h").exists():
            return home
    return None


def wants_cuda(home: str | None) -> bool:
    switch = os.environ.get("LTLSTM_CUDA", "")
    if switch not in ("", "0", "1"):
        raise SystemExit(f"LTLSTM_CUDA must be 0 or 1, got {switch!r}")
    if switch == "1" and home is None:
        raise SystemExit("LTLSTM_CUDA=1, but no nvcc was found: put it on PATH or set CUDA_HOME")
    asked = switch == "1" or (switch == "" and torch.version.cuda is not None)
    return asked and home is not None


def architectures(source: str) -> list[str]:
    """What a source is compiled for; the GPU of this machine is not asked. Clusters came with 9.0:
    where nothing listed has them, their kernels are compiled all the same, and never run. What
    keeps to no plan of an architecture is PTX too, for any GPU to come."""
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHITECTURES
    found = [arch for arch in re.split(r"[;\s]+", listed) if arch]
    if not Path(source).name.startswith("time_lstm"):
        plain = sorted({arch.removesuffix("+PTX").rstrip("af") for arch in found}, key=float)
        return [*plain[:-1], f"{plain[-1]}+PTX"]
    if not source.endswith("_cluster.cu"):
        return found
    return [arch for arch in found if int(arch.partition(".")[0]) >= 9] or ["9.0a"]


def nvcc_command(home: str, source: str, target: str, archs: Sequence[str]) -> list[str]:
    flags = ["-std=c++17", "-O3", f"-I{CSRC}", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall"]
    flags.append("-Xptxas=-v")  # registers and spills of each kernel
    for arch in archs:
        number = arch.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if arch.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    cache = ["ccache"] if shutil.which("ccache") else []
    return [*cache, f"{home}/bin/nvcc", *flags, "-MD", "-c", source, "-o", target]


def newest_input(source: str, target: Path) -> float:
    """When something that an object is made of was last changed, by what nvcc noted (-MD)."""
    noted = target.with_suffix(".d")
    text = noted.read_text().replace("\\\n", " ") if noted.exists() else ""
    files = text.partition(":")[2].split() if text else headers
    ours = [ROOT / file for file in files if (ROOT / file).is_relative_to(ROOT)]
    times = (path.stat().st_mtime if path.exists() else inf for path in ours)
    return max((ROOT / source).stat().st_mtime, (ROOT / "setup.py").stat().st_mtime, *times)


cuda_sources = sources("csrc/cuda/*.cu")
home = cuda_home()
build_cuda = wants_cuda(home)
headers = sources("csrc/**/*.h", "csrc/**/*.cuh")
STABLE_ABI = [
    ("TORCH_TARGET_VERSION", f"0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000"),
    ("TORCH_STABLE_ONLY", None),
]
BUILD_FACTS = [
    ("LTLSTM_TORCH_TARGET", '"{}.{}"'.format(*TORCH_TARGET)),
    ("LTLSTM_TORCH_VERSION", f'"{torch.__version__}"'),
    ("LTLSTM_WITH_CUDA", str(int(build_cuda))),
]
cuda_bindings = sources("csrc/binding/cuda*.cpp")
# What both operator libraries take and check their arguments with.
SHARED = ["csrc/binding/arguments.cpp", "csrc/binding/calls.cpp", "csrc/cpu/sparse_compile.cpp"]
build_facts = "csrc/binding/build_facts.cpp"
cpu_bindings = sorted(set(sources("csrc/binding/*.cpp")) - {*cuda_bindings, build_facts})


def operator_library(name: str, files: list[str], **options) -> Extension:
    # py_limited_api: no libtorch_python in the link, no Python version in the file's name.
    return CppExtension(
        f"ltlstm_kernels.{name}",
        files,
        include_dirs=[CSRC, *options.pop("include_dirs", [])],
        define_macros=STABLE_ABI + options.pop("define_macros", []),
        depends=headers,
        py_limited_api=True,
        **options,
    )


extensions = [
    operator_library(
        "_ops_cpu",
        sources("csrc/*.cpp", "csrc/cpu/*.cpp") + cpu_bindings,
        extra_compile_args=CXX_FLAGS,
        extra_link_args=["-pthread"],
    ),
    Extension(
        "ltlstm_kernels._C",
        [build_facts],
        include_dirs=[CSRC, pybind11.get_include()],
        depends=headers,
        define_macros=BUILD_FACTS,
        extra_compile_args=CXX_FLAGS,
        language="c++",
    ),
]
if build_cuda:
    extensions.append(
        operator_library(
            "_ops_cuda",
            sources("csrc/*.cpp") + cuda_bindings + SHARED,
            # USE_CUDA: torch declares its streams only then.
            define_macros=[("LTLSTM_CUDA_BINDING", None), ("USE_CUDA", None)],
            include_dirs=[f"{home}/include"],
            library_dirs=[f"{home}/lib64", f"{home}/lib"],
            # Static: the library then loads beside a torch of another CUDA release, or of none.
            libraries=["cudart_static", "rt", "dl"],
            extra_compile_args=CXX_FLAGS,
            # By force: the linker drops a library that only weak symbols need, and libtorch.so is
            # what brings the CUDA part of a CUDA torch into this library's scope.
            extra_link_args=["-Wl,--push-state,--no-as-needed,-ltorch,--pop-state"],
        )
    )


class BuildLibraries(BuildExtension):
    """One folder of objects for each extension, which share sources but not flags; nvcc by hand.

    torch compiles .cu files only where it was itself built for the CUDA release of that nvcc. Our
    kernels include no torch header, so any nvcc and any torch will do.
    """

    def finalize_options(self):
        super().finalize_options()
        # pip's editable build names a temporary folder, which would compile all of it every time.
        python = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        self.objects = Path("build", f"objects-{python}")

    def build_extension(self, ext):
        self.build_temp = str(self.objects / ext.name)
        os.makedirs(self.build_temp, exist_ok=True)
        if ext.name == "ltlstm_kernels._ops_cuda":
            jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
            with ThreadPoolExecutor(jobs) as pool:
                ext.extra_objects = list(pool.map(self.compile_cuda, cuda_sources))
        super().build_extension(ext)

    def compile_cuda(self, source):
        """The object; beside it lies what the compiler said, which is not for the screen."""
        target = Path(self.build_temp, Path(source).with_suffix(".cu.o").name)
        made = target.stat().st_mtime if target.exists() and not self.force else 0.0
        if made < newest_input(source, target):
            command = nvcc_command(home, source, str(target), architectures(source))
            print(*command)
            run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if run.returncode != 0:
                raise SystemExit(f"{source}: nvcc failed\n{run.stdout.decode()}")
            target.with_suffix(".log").write_bytes(run.stdout)
        return str(target)


setup(
    packages=["ltlstm_kernels", *find_packages("python")],
    package_dir={"ltlstm": "python/ltlstm"},
    package_data={"ltlstm_kernels": ["py.typed", "*.pyi"], "ltlstm": ["py.typed"]},
    ext_modules=extensions,
    cmdclass={"build_ext": BuildLibraries},
)
