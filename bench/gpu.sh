#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/gpu.sh OUTDIR [--stages A,B] [--budget SECONDS] [--quick] [--emulated]: what the GPU at hand
# has to show, in under 9 minutes; bench/gpu.sh --prepare, on any machine with nvcc: builds what
# else would be compiled there. bench/gpu/__main__.py tells more. PYTHON= names the interpreter, by
# default .venv's.
set -euo pipefail
usage="usage: bench/gpu.sh OUTDIR [--stages A,B] [--budget SECONDS] [--quick] [--emulated] | --prepare"
[[ $# -gt 0 ]] && [[ $1 != -* || $1 == --prepare || $1 == --help ]] || { echo "$usage" >&2; exit 2; }
if [[ $1 != -* ]]; then
  out=$(realpath -m "$1")
  shift
  set -- "$out" "$@"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
PYTHONPATH=.:python${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m bench.gpu "$@"
