# SPDX-License-Identifier: Apache-2.0
"""Reads the inline assembly of each kernel out of a PTX file.

A register is replaced by where its value comes from or goes to, so that two operands that changed
places show: `p0[4]` is what lies 4 bytes behind the kernel's first parameter, `p1` the second
parameter itself.
"""

import re
from collections.abc import Iterator

ENTRY = re.compile(r"\.visible \.entry (\w+)\((.*?)\n\}\n", re.S)
INLINE = re.compile(r"// begin inline asm\n(.*?)// end inline asm", re.S)
REGISTER = re.compile(r"%(?:rd|r|f|p|rs)\d+")


def _operands(text: str) -> list[str]:
    """`{a, b}, [c+4]` as a, b, [c+4]."""
    return [part.strip() for part in re.sub(r"[{}]", "", text).split(",")]


def _origins(body: str) -> dict[str, str]:
    """Where each register comes from, or goes to."""
    found: dict[str, str] = {}

    def place(address: str, k: int = 0) -> str:
        base, _, offset = address.strip("[]").partition("+")
        if parameter := re.search(r"_param_(\d+)$", base):
            return f"p{parameter[1]}"
        return f"{found.get(base, base)}[{int(offset or 0) + 4 * k}]"

    for line in body.splitlines():
        matched = re.match(r"[\s{]*([a-z][\w.:]*)\s+(.*?);[\s}]*$", line)
        if not matched:
            continue
        name, operands = matched[1], _operands(matched[2])
        if name.startswith("ld."):
            *registers, address = operands
            found.update({register: place(address, k) for k, register in enumerate(registers)})
        elif name.startswith("st."):
            address, *registers = operands
            found.update({register: place(address, k) for k, register in enumerate(registers)})
        elif name.startswith(("cvt", "mov")):
            found[operands[0]] = found.get(operands[1], operands[1])
        elif name.startswith("add"):
            found[operands[0]] = f"{found.get(operands[1], operands[1])}+{operands[2]}"
    return found


def inline_assembly(ptx: str) -> Iterator[tuple[str, str]]:
    """The name of each kernel and its one inline assembly statement."""
    for name, body in ENTRY.findall(ptx):
        statements = INLINE.findall(body)
        assert len(statements) == 1, f"{name} has {len(statements)} inline assembly statements"
        origins = _origins(INLINE.sub("", body))
        parts = re.split(f"({REGISTER.pattern})", " ".join(statements[0].split()))
        yield name, "".join(origins.get(part, part) for part in parts)
