"""What the client of a storm counts, and what comes out of it."""

LAST, EVERY = 40, 10
START = list(range(5))


def update(x: list[int]) -> list[int]:
    """A step: what comes out depends on all before."""
    return [(one * 6364136223846793005 + 2 * n + 1) % 2**64 for n, one in enumerate(x)]


def undisturbed() -> bytes:
    x = START
    for _ in range(LAST):
        x = update(x)
    return repr(x).encode()
