"""What a pickle describes as nested dictionaries and objects, flattened to names."""

from collections.abc import Iterator

from latte_cli.core.checkpoints.formats.pickles import Described
from latte_cli.core.checkpoints.limits import MAX_NAME_BYTES, MAX_TENSORS, RefusedError


def leaves(content: object) -> Iterator[tuple[str, object]]:
    """Everything in a tree that is no branch, in the tree's order, named by the way to it: "a/b/c".

    Branches are dictionaries and objects whose state is one. Raises RefusedError for a tree that is deeper
    or larger than weights need, such as one that holds itself.
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
            raise RefusedError("its pickle nests more than weights need")
        start = f"{name}/" if name else ""
        branches = [(f"{start}{key}", value) for key, value in inside.items() if isinstance(key, str)]
        waiting += reversed(branches)
    raise RefusedError(f"its pickle holds more than {MAX_TENSORS} entries")
