"""Dividing what there is."""

from __future__ import annotations


def shares(sizes: list[int], count: int) -> list[int]:
    """`count` divided in proportion to sizes (largest remainders), none above its size, one each where it reaches.

    A count below 0 is 0, one above the sum of the sizes that sum.
    """
    total = sum(sizes)
    count = max(0, min(count, total))
    if not count:
        return [0] * len(sizes)
    exact = [count * size / total for size in sizes]
    given = [int(share) for share in exact]
    if count >= len(sizes):
        given = [max(1, share) if size else 0 for share, size in zip(given, sizes, strict=True)]
    order = sorted(range(len(sizes)), key=lambda at: (given[at] - exact[at], at))
    step = 1 if sum(given) < count else -1
    while sum(given) != count:
        for at in order if step > 0 else reversed(order):
            if sum(given) == count:
                break
            if (step > 0 and given[at] < sizes[at]) or (step < 0 and given[at] > 1):
                given[at] += step
    return given
