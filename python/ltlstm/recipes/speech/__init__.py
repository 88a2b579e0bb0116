# SPDX-License-Identifier: Apache-2.0
"""Speech corpora: made by a synthesiser or read from disk, as features and senone labels."""
