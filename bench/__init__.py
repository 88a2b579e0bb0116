# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: `python -m bench --help`, on a GPU `bench/gpu.sh`. Each row is checked before it is
timed.

groups.py says what is measured and what is aimed at, contenders.py what stands beside what,
timing.py how it is timed, bounds.py what the machine allows, run.py puts them together and
record.py keeps the result; report.py, plots.py and measured.py read what was kept. gpu/ does the
same on a GPU, stage by stage, with timing.py and record.py.
"""
