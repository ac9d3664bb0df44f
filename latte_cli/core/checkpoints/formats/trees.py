"""Flatten nested dictionaries and objects described by a pickle."""

from collections.abc import Iterator

from latte_cli.core.checkpoints.formats.pickles import Described
from latte_cli.core.checkpoints.limits import MAX_NAME_BYTES, MAX_TENSORS, RefusedError


def leaves(content: object) -> Iterator[tuple[str, object]]:
    """The leaves of a tree with their paths, "a/b/c", in the tree's order.

    Branches are dictionaries, and objects whose state is a dictionary. Raises RefusedError if the tree is
    deeper or larger than weights need, for example because it contains itself.
    """
    waiting = [("", content)]
    for _ in range(MAX_TENSORS):
        if not waiting:
            return
        name, item = waiting.pop()
        inside = item.state if isinstance(item, Described) else item
        if not isinstance(inside, dict):
            yield name, item
            continue
        if len(name) > MAX_NAME_BYTES or len(waiting) + len(inside) > MAX_TENSORS:
            raise RefusedError("its pickle is nested deeper than weights need")
        start = f"{name}/" if name else ""
        branches = [(f"{start}{key}", value) for key, value in inside.items() if isinstance(key, str)]
        waiting += reversed(branches)
    raise RefusedError(f"its pickle has more than {MAX_TENSORS} entries")
