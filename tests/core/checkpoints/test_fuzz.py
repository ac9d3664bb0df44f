import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latte_cli.core.checkpoints.formats.pickles import read_pickle
from latte_cli.core.checkpoints.formats.torch_names import TABLE, Claims
from latte_cli.core.checkpoints.limits import RefusedError
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from tests.core.checkpoints.fuzz import cases

INSTRUCTIONS = st.sampled_from(
    [bytes([code]) for code in b"\x80\x95(012N\x88\x89JKMG}])tdlsuaeqrhjcRbQ.\x81\x85\x86\x87\x93"]
)
PIECES = st.one_of(
    INSTRUCTIONS,
    st.binary(max_size=8),
    st.sampled_from(["c{}\n{}\n".format(*name.rsplit(".", 1)).encode() for name in TABLE]),
)
SIMPLE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.slow
def test_a_thousand_damaged_checkpoints_are_read_or_rejected(tmp_path: Path) -> None:
    outcomes = list(cases(tmp_path, first=0, count=1000, seed=1))
    assert {"converted", "refused"} == set(outcomes)


@pytest.mark.slow
@given(st.lists(PIECES, max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_pickle_instructions_give_an_object_or_an_error(parts: list[bytes]) -> None:
    words = ""
    try:
        read_pickle(memoryview(b"".join(parts) + b"."), 0, table=TABLE, persistent=Claims())
    except RefusedError as refusal:
        words = str(refusal)
    assert words.isprintable()


@pytest.mark.slow
@given(SIMPLE, st.sampled_from([2, 3, 4, 5]))
@settings(max_examples=300, deadline=None)
def test_plain_data_is_read_as_python_reads_it(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol=protocol)
    found, end = read_pickle(memoryview(content), 0, table=TABLE, persistent=Claims())
    assert (found, end) == (value, len(content))


@pytest.mark.slow
@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    for start in (
        b"",
        b"PK\x03\x04",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\n\x20\n\x01w",
        b"\x10" + bytes(7) + b"{",
    ):
        path.write_bytes(start + content)
        with pytest.raises(LatteError):
            open_weights(path)
