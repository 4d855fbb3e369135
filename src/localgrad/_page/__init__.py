"""The page that shows recordings over time: one HTML file with everything inside."""

from localgrad._page.film import Edge, Film, Unit
from localgrad._page.page import page, save

__all__ = ["Edge", "Film", "Unit", "page", "save"]
