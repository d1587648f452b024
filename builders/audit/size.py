"""How many records buy how much certainty. Normal approximation with finite population correction (Cochran, 1977)."""

from __future__ import annotations

from math import ceil, sqrt

Z = 1.959963984540054
"""Two-sided 95 %."""
EXPECTED = 0.9
"""Share that is planned for. A share nearer to one half needs more records, at most 2.8 times as many."""


def half_width(records: int, population: int, share: float = EXPECTED) -> float:
    """Half the width of a 95 % interval for a share, as a share; 0 for a census, 1 for no record."""
    if records <= 0:
        return 1.0
    if records >= population:
        return 0.0
    correction = (population - records) / max(population - 1, 1)
    return Z * sqrt(share * (1 - share) / records * correction)


def records_for(width: float, population: int, share: float = EXPECTED) -> int:
    """Records that give a half width of at most this (0 to 1)."""
    if population <= 0:
        return 0
    free = Z * Z * share * (1 - share) / (width * width)
    return min(population, ceil(free / (1 + (free - 1) / population)))


def buys(records: int, population: int) -> str:
    """What that many random records are worth, in words."""
    if not records:
        return "no random record: the judge cannot be measured"
    points = 100 * half_width(records, population)
    return f"{records} random of {population} give a share of {EXPECTED:.0%} ± {points:.1f} points (95 %)"
