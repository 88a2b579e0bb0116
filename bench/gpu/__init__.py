# SPDX-License-Identifier: Apache-2.0
"""What a GPU has to show in a few minutes: `bench/gpu.sh OUTDIR`, or `python -m bench.gpu OUTDIR`.

stages.py lists what is done, in which order and in which time; worker.py does it; target.py says
where. programs.py builds beforehand what needs a compiler.
"""
