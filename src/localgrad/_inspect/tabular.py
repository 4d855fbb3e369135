"""What prints as a table, everywhere."""

from abc import ABC, abstractmethod
from typing import Any

from localgrad._inspect.html import html
from localgrad._inspect.table import Table


class Tabular(ABC):
    """What prints as a table: as text, and in a notebook as HTML."""

    @abstractmethod
    def _table(self) -> Table | None:
        """The table; None while there are no numbers to show."""

    def _figure(self) -> str:
        """HTML to stand above the rows in a notebook."""
        return ""

    def __str__(self) -> str:
        table = self._table()
        return repr(self) if table is None else table.text

    def _repr_html_(self) -> str | None:
        """What a notebook shows."""
        table = self._table()
        return None if table is None else html(table, self._figure())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows where there is no HTML."""
        printer.text(str(self))
