"""Format numbers with units."""


def short(number: float) -> str:
    """Three significant digits without exponent: 13,600 or 0.125."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def bytes_of(number: float) -> str:
    """Bytes: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.0f} PB"


def duration(seconds: float) -> str:
    """Seconds: 2.1 s, 5 min, 3 h, 12 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{short(seconds / size)} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
