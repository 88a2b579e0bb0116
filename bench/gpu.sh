#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/gpu.sh OUTDIR [--quick] [--emulated]: tests, sanitizers and benchmarks on the GPU at hand, in
# under 9 minutes; bench/gpu.py tells more. PYTHON= names the interpreter, by default .venv's.
set -euo pipefail
[[ $# -gt 0 && $1 != -* ]] || { echo "usage: bench/gpu.sh OUTDIR [--quick] [--emulated]" >&2; exit 2; }
out=$(realpath -m "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
PYTHONPATH=.:python${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m bench.gpu "$out" "$@"
