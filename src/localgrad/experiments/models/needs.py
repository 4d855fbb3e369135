"""What a model needs of its sizes and of the inputs, said when it is not so."""

from collections.abc import Sequence


def need(is_met: bool, text: str) -> None:
    """Raise a ValueError with ``text`` unless ``is_met``."""
    if not is_met:
        raise ValueError(text)


def need_images(name: str, shape: Sequence[int], side: int = 1) -> tuple[int, int, int]:
    """The (channels, rows, columns) of the inputs, if they are images with ``side`` pixels a side.

    Raises:
        ValueError: if they are not.
    """
    need(
        len(shape) == 3 and min(shape[1:]) >= side,
        f"{name} needs images of {side} x {side} pixels at least, (channels, rows, columns), "
        f"and the data have inputs of shape {tuple(shape)}; choose other data or another model",
    )
    channels, rows, columns = shape
    return channels, rows, columns


def need_text(name: str, shape: Sequence[int]) -> int:
    """The length of the inputs, if they are pieces of text.

    Raises:
        ValueError: if they are not.
    """
    need(
        len(shape) == 1,
        f"{name} predicts the next character of a text, of shape (length,), and the data have "
        f"inputs of shape {tuple(shape)}; choose data such as text:PATH, or another model",
    )
    return shape[0]
