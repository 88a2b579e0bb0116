# SPDX-License-Identifier: Apache-2.0
"""Reads the sources and lists where they break the house rules: layers, size, licence, opening.

Each rule is a function of a folder that holds a tree like ours, so that it can itself be tested.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# One subject a file. A longer file has more than one, or says here why not.
MAX_LINES = 600
CODE = {".py", ".pyi", ".cpp", ".cu", ".h", ".cuh"}
FOLDERS = ("csrc", "ltlstm_kernels", "python", "tests", "bench")
ROOT_FILES = ("setup.py", "pyproject.toml", "Makefile", ".ci/run")

# What each part may import, beside the standard library and itself; a name stands for all that
# lies below it. The longest part that matches a module decides.
KERNELS = ("ltlstm_kernels", "torch")
AUTOGRAD = (*KERNELS, "ltlstm.reference")
FUNCTIONAL = (*AUTOGRAD, "ltlstm.autograd")
MODULES = (*FUNCTIONAL, "ltlstm.functional")
SPARSITY = (*MODULES, "ltlstm.modules", "ltlstm.files", "ltlstm.arguments")
IMPORTS = {
    "ltlstm_kernels": ("torch", "triton"),
    "ltlstm.arguments": (),
    "ltlstm.files": ("torch",),
    "ltlstm.reference": ("torch",),
    "ltlstm.autograd": AUTOGRAD,
    "ltlstm.functional": FUNCTIONAL,
    "ltlstm.modules": MODULES,
    "ltlstm.sparsity": (*SPARSITY, "safetensors", "matplotlib"),
    "ltlstm.convert": SPARSITY,
    "ltlstm.info": (*KERNELS, "ltlstm"),
    "ltlstm": (*SPARSITY, "ltlstm.sparsity", "ltlstm.convert"),
    "ltlstm.recipes": ("ltlstm", "torch", "espeakng_loader", "matplotlib", "numpy", "rich")
    + ("soundfile",),
}

# What each C++ folder may include, beside the standard library and the headers of csrc itself: the
# starts of the path as written.
CUDA_TOOLKIT = r"cuda|mma\.h|cooperative_groups"
STABLE_TORCH = r"torch/csrc/stable/|torch/headeronly/|torch/csrc/inductor/aoti_torch/"
INCLUDES = {
    "csrc": r"(?!)",
    "csrc/cpu": r"cpu/|immintrin\.h|(pthread|sched|unistd|linux/futex|sys/syscall)\.h",
    "csrc/cuda": rf"cuda/|{CUDA_TOOLKIT}|emulator\.h",
    "csrc/binding": rf"binding/|emulator\.h|cpu/|cuda/|{CUDA_TOOLKIT}|{STABLE_TORCH}",
    "csrc/binding/build_facts.cpp": r"pybind11/",
}


def code_files(root: Path) -> list[Path]:
    found = [path for name in FOLDERS for path in sorted((root / name).rglob("*"))]
    return [root / "setup.py"] + [path for path in found if path.suffix in CODE]


def broken_size(root: Path) -> Iterator[str]:
    for path in code_files(root):
        lines = len(path.read_text().splitlines())
        if lines > MAX_LINES:
            yield f"{path.relative_to(root)}: {lines} lines, more than {MAX_LINES}"


def broken_licence(root: Path) -> Iterator[str]:
    """One SPDX line at the top: the first line, or the second after a `#!`."""
    for path in {*code_files(root), *(root / name for name in ROOT_FILES)}:
        lines = path.read_text().splitlines() if path.exists() else []
        top = lines[1:2] if lines and lines[0].startswith("#!") else lines[:1]
        if not top or not re.fullmatch(r"(#|//) SPDX-License-Identifier: Apache-2\.0", top[0]):
            yield f"{path.relative_to(root)}: no SPDX line at the top"


def broken_opening(root: Path) -> Iterator[str]:
    """A file opens by saying what it is: a docstring, or a comment under the SPDX line."""
    for path in code_files(root):
        text = path.read_text()
        if path.suffix == ".py":
            opened = ast.get_docstring(ast.parse(text)) is not None
        else:
            opened = path.suffix == ".pyi" or bool(re.match(r"//.*\n// ?\w", text))
        if not opened:
            yield f"{path.relative_to(root)}: does not open by saying what it is"


def broken_stems(root: Path) -> Iterator[str]:
    """Two sources of one stem in a folder would write the same object file."""
    seen: dict[Path, Path] = {}
    for path in code_files(root):
        if path.suffix in (".cpp", ".cu") and "csrc" in path.parts:
            other = seen.setdefault(path.with_suffix(""), path)
            if other is not path:
                yield f"{path.relative_to(root)}: same stem as {other.name}"


def broken_includes(root: Path) -> Iterator[str]:
    own = {path.name for path in (root / "csrc").glob("*.h")}
    for path in code_files(root):
        place = path.relative_to(root).as_posix()
        if not place.startswith("csrc/"):
            continue
        folder = path.parent.relative_to(root).as_posix()
        allowed = INCLUDES.get(place) or INCLUDES.get(folder)
        if allowed is None:
            yield f"{place}: its folder has no layer"
            continue
        for header in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', path.read_text(), re.M):
            standard = re.fullmatch(r"[a-z_]+", header)
            if not (standard or header in own or re.match(allowed, header)):
                yield f"{place}: includes {header}"


def module_name(root: Path, path: Path) -> str:
    base = root / "python" if root / "python" in path.parents else root
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def longest_match(name: str, table) -> str | None:
    matches = [key for key in table if name == key or name.startswith(key + ".")]
    return max(matches, key=len, default=None)


def imported_modules(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """Every module an import statement anywhere in the file may reach, in full."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}" if base else above
            yield from (f"{base}.{alias.name}" for alias in node.names)


def broken_imports(root: Path) -> Iterator[str]:
    packages = [root / "ltlstm_kernels", root / "python" / "ltlstm"]
    files = [path for folder in packages for path in sorted(folder.rglob("*.py"))]
    for path in files:
        module = module_name(root, path)
        part = longest_match(module, IMPORTS)
        if part == "ltlstm" and module != "ltlstm":
            yield f"{path.relative_to(root)}: {module} has no layer"
            continue
        assert part is not None
        tree = ast.parse(path.read_text())
        for name in imported_modules(tree, module, path.name == "__init__.py"):
            target = longest_match(name, IMPORTS) or name.partition(".")[0]
            standard = target in sys.stdlib_module_names
            inside = target == part
            allowed = target in IMPORTS[part] or longest_match(target, IMPORTS[part]) is not None
            if not (standard or inside or allowed):
                yield f"{path.relative_to(root)}: imports {name}"


RULES = [
    broken_size,
    broken_licence,
    broken_opening,
    broken_stems,
    broken_includes,
    broken_imports,
]
