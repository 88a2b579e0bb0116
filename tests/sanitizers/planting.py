# SPDX-License-Identifier: Apache-2.0
"""How a defect gets into a copy of a source: by replacing text that is known to be there."""

from pathlib import Path


def replace(file: Path, old: str, new: str, nth: int = 0, of: int = 1) -> None:
    """Occurrence `nth` of `old` becomes `new`; that there are `of` of them is checked."""
    parts = file.read_text().split(old)
    assert len(parts) == of + 1, f"{file.name} has {old!r} {len(parts) - 1} times, not {of}"
    head, tail = parts[: nth + 1], parts[nth + 1 :]
    file.write_text(old.join(head) + new + old.join(tail))
