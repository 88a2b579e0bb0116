# SPDX-License-Identifier: Apache-2.0
"""Tables as markdown, and on the screen."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def show(heading: str, tables: Sequence[Table]) -> None:
    """Prints the tables: by rich where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print("\n\n".join([heading, *(table.markdown() for table in tables)]))
        return
    console = Console()
    console.width = max(console.width, 180)  # a cut number says nothing; a narrow terminal wraps
    console.print(heading, highlight=False)
    for table in tables:
        drawn = RichTable(*table.header, title=table.title, title_justify="left")
        for line in table.rows:
            drawn.add_row(*line)
        console.print(drawn)
