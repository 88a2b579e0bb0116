# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: `python -m bench --help`. Each case is checked before it is timed."""
