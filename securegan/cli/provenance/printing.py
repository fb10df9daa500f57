"""Tables and JSON."""

import json
import sys
from typing import Any


def table_of(*columns: str) -> Any:
    """A table without lines between its rows."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Any) -> None:
    """As wide as the terminal."""
    from rich.console import Console

    Console(soft_wrap=False, highlight=False).print(table)


def print_json(value: Any) -> None:
    """One value, for scripts."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
