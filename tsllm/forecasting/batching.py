"""How many windows are computed at a time, and what that promises.

The same window gives the same bits in batches of one shape at one place. In another shape, or at another place of the
same shape, sums are taken in another order, and forecasts differ by rounding. Filling batches up to one size is hence
not enough: a window stands elsewhere when others are asked for. What depends on the window alone is a batch of one.
"""

from collections.abc import Iterator


def split_batches(
    num_windows: int, num_channels: int, batch_size: int, batch_invariant: bool = False
) -> Iterator[tuple[int, int]]:
    """Yields first and last (exclusive) window of each batch, in order.

    Args:
        num_windows: Windows asked for.
        num_channels: Series in a window.
        batch_size: Series a batch; a batch has at least one window.
        batch_invariant: One window a batch, so that no forecast depends on the others that are asked for; to be run
            within `model.computing_alone()`.

    Raises:
        ValueError: If `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    size = 1 if batch_invariant else max(1, batch_size // num_channels)
    for start in range(0, num_windows, size):
        yield start, min(start + size, num_windows)
