# SPDX-License-Identifier: Apache-2.0
"""Complete training runs on real input, each started with `python -m ltlstm.recipes.<name>`."""
