import json
import struct
import time
import zipfile
from pathlib import Path

import pytest

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from tests.core.checkpoints import hostile
from tests.core.checkpoints.hostile import checkpoint, integer, sizes, storage, tensor, text, zip_file

SECONDS = 5.0
PUSH_NONE_FOREVER = b"N0" * 3_000_000


def read_all(path: Path) -> None:
    weights = open_weights(path)
    for name in weights.names:
        weights.read(name)


def refusal(path: Path) -> str:
    """The one-line error of opening a file and reading all of it."""
    started = time.process_time()
    with pytest.raises(LatteError) as caught:
        read_all(path)
    assert time.process_time() - started < SECONDS
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line.removeprefix(f"{path}: ")


CALLS = {
    "GLOBAL": b"cos\nsystem\n" + text("x") + b"\x85R",
    "STACK_GLOBAL": text("posix") + text("system") + b"\x93" + text("x") + b"\x85R",
    "a name never called": b"csubprocess\nPopen\n",
    "an attribute walk": b"cbuiltins\ngetattr\n",
    "a dotted name": b"\x80\x04" + text("torch") + text("_utils._rebuild_tensor_v2.__globals__") + b"\x93",
    "PyTorch's own loader": b"ctorch.storage\n_load_from_bytes\nC\x01.\x85R",
    "INST": b"(" + text("x") + b"ios\nsystem\n",
    "OBJ": b"(ccollections\nOrderedDict\no",
    "NEWOBJ_EX": b"ccollections\nOrderedDict\n)}\x92",
    "EXT1": b"\x82\x01",
    "a persistent id in words": b"Pstorage\n",
    "an out-of-band buffer": b"\x97",
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "where", ["in place of a tensor", "in an entry that nobody needs", "dropped at once"]
)
def test_only_the_functions_that_build_tensors_can_be_called(
    tmp_path: Path, calls: bytes, where: str
) -> None:
    pickled = {
        "in place of a tensor": checkpoint(calls),
        "in an entry that nobody needs": checkpoint(tensor(), more=text("args") + calls),
        "dropped at once": checkpoint(calls + b"0" + tensor()),
    }[where]
    for path in (
        zip_file(tmp_path / "new.pt", pickled),
        hostile.old_file(tmp_path / "old.pt", pickled, {"0": bytes(16)}),
    ):
        line = refusal(path)
        assert "its pickle calls for" in line or "instruction that weights do not need" in line


MALFORMED = {
    "a known name with wrong arguments": hostile.TENSOR + b")R",
    "a tensor over a tensor": hostile.TENSOR
    + b"("
    + tensor()
    + integer(0)
    + sizes(4)
    + sizes(1)
    + b"\x89NtR",
    "a call of what is not a function": b"ctorch\nFloatStorage\n)R",
    "a call of a list": b"])R",
    "attributes of a tensor": tensor() + b"}b",
    "attributes of a function": hostile.TENSOR + b"}b",
    "items of a tensor": tensor() + text("k") + b"Ns",
    "a persistent id that is not a tuple": text("storage") + b"Q",
    "a persistent id of another kind": b"(" + text("module") + b"NNNNtQ",
    "a storage of an unknown type": storage(kind="Tensor"),
    "a storage of a negative length": storage(count=-1),
    "a storage whose length is not an integer": storage().replace(integer(4) + b"tQ", b"\x88tQ"),
    "a storage with an empty key": storage(key=""),
    "one storage of two lengths": storage() + b"0" + storage(count=2),
    "one storage of two types": storage() + b"0" + storage(kind="IntStorage"),
    "an integer of a thousand bytes": b"\x8b" + struct.pack("<I", 1000) + bytes(1000),
    "a text longer than the file": b"\x8d" + struct.pack("<Q", 1 << 62),
    "bytes longer than the file": b"\x8e" + struct.pack("<Q", (1 << 64) - 1),
    "text that is not UTF-8": b"\x8c\x02\xff\xff",
    "a name that does not end": b"c" + b"x" * 10_000,
    "an empty stack": b"00000000",
    "no mark": b"tttt",
    "a memory that was never stored": b"j" + struct.pack("<I", 1 << 31),
    "a protocol of the future": b"\x80\xff",
    "endless steps": PUSH_NONE_FOREVER,
    "endless tuples in tuples": b")" + b"\x85" * 3_000_000,
    "a list appended to itself for ever": b"]q\x00" + b"h\x00a" * 1_500_000,
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_or_endless_pickle_is_rejected_at_once(tmp_path: Path, value: bytes) -> None:
    refusal(zip_file(tmp_path / "x.pt", checkpoint(value)))


VIEWS = {
    "past the end": ((5,), (1,), 0),
    "starting past the end": ((1,), (1,), 4),
    "striding past the end": ((2, 2), (4, 1), 0),
    "starting before the beginning": ((1,), (1,), -1),
    "of negative size": ((-4,), (1,), 0),
    "going backwards": ((4,), (-1,), 3),
    "with more strides than axes": ((4,), (1, 1), 0),
    "of 2^40 elements that are all one": ((1 << 20, 1 << 20), (0, 0), 0),
    "of 2^62 elements": ((1 << 31, 1 << 31), (0, 0), 0),
    "empty in one axis, endless in another": ((0, 1 << 60), (1, 1), 0),
    "of a thousand axes": ((1,) * 1000, (0,) * 1000, 0),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_tensor_that_reaches_outside_its_storage_is_rejected(
    tmp_path: Path, view: tuple[tuple[int, ...], tuple[int, ...], int]
) -> None:
    shape, strides, offset = view
    refusal(zip_file(tmp_path / "x.pt", checkpoint(tensor(shape, strides, offset=offset))))


def test_a_key_that_is_slow_to_hash_is_not_hashed(tmp_path: Path) -> None:
    nested = b")" + b"2\x86" * 60  # 2^60 leaves if it is walked
    path = zip_file(tmp_path / "x.pt", checkpoint(tensor(), more=nested + b"N"))
    assert open_weights(path).names == ("w",)


def test_the_error_does_not_print_an_invalid_value(tmp_path: Path) -> None:
    nested = b")" + b"2\x86" * 60
    assert refusal(zip_file(tmp_path / "x.pt", checkpoint(nested))) == "w: found a tuple, expected a tensor"


def test_a_name_with_line_breaks_and_colours_is_printed_on_one_line(tmp_path: Path) -> None:
    evil = "w\n\x1b[31mfine: nothing wrong\r\u202e" + "x" * 5000
    path = zip_file(tmp_path / "x.pt", b"\x80\x02}" + text("ema") + b"}" + text(evil) + b"Nss.")
    assert "\\n\\x1b[31mfine" in refusal(path)


def patched(path: Path, find: bytes, replacement: bytes, *, last: bool = False) -> Path:
    content = path.read_bytes()
    at = content.rfind(find) if last else content.find(find)
    assert at >= 0
    path.write_bytes(content[:at] + replacement + content[at + len(replacement) :])
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return zip_file(tmp_path / "plain.pt", checkpoint(tensor()))


def test_the_file_is_valid_before_the_next_tests_damage_it(plain: Path) -> None:
    assert open_weights(plain).read("w").tolist() == [0, 0, 0, 0]


def test_a_member_listed_twice_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", checkpoint(tensor()))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("archive/data.pkl", checkpoint(tensor()))
    assert refusal(path) == "its zip directory lists archive/data.pkl twice"


def test_a_compressed_member_is_rejected_before_decompression(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 24))
    assert "is compressed" in refusal(path)


def directory_entry(path: Path, number: int) -> int:
    """Where an entry of the zip's directory begins."""
    content = path.read_bytes()
    at = -1
    for _ in range(number + 1):
        at = content.index(b"PK\x01\x02", at + 1)
    return at


def overwritten(path: Path, at: int, layout: str, *values: int) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, at, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("field", "layout", "value"),
    [
        ("flags", "<H", 1),
        ("method", "<H", 8),
        ("packed size", "<I", 1 << 30),
        ("size", "<I", 1 << 30),
        ("name length", "<H", 0xFFFF),
        ("extra length", "<H", 0xFFFF),
        ("comment length", "<H", 0xFFFF),
        ("disk", "<H", 1),
        ("header's place", "<I", 1),
        ("header's place", "<I", 0xFFFFFFFF),
        ("header's place", "<I", 0xFFFFFFFE),
        ("size", "<I", 0xFFFFFFFF),
        ("name", "<B", ord("x")),
    ],
)
def test_a_directory_that_does_not_match_the_file_is_rejected(
    plain: Path, field: str, layout: str, value: int
) -> None:
    places = {
        "flags": 8,
        "method": 10,
        "packed size": 20,
        "size": 24,
        "name length": 28,
        "extra length": 30,
        "comment length": 32,
        "disk": 34,
        "header's place": 42,
        "name": 46,
    }
    refusal(overwritten(plain, directory_entry(plain, 2) + places[field], layout, value))


def test_overlapping_members_are_rejected(plain: Path) -> None:
    content = plain.read_bytes()
    first, second = directory_entry(plain, 0), directory_entry(plain, 1)
    twin = content[first:second].replace(b"archive/data.pkl", b"archive/dat2.pkl")
    both = content[: content.rfind(b"PK\x05\x06")] + twin
    start = directory_entry(plain, 0)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 4, 4, len(both) - start, start, 0)
    local = (
        both.replace(b"archive/dat2.pkl", b"archive/data.pkl") + end
    )  # both entries point to the first local header
    plain.write_bytes(local)
    assert refusal(plain) == "its zip directory lists archive/data.pkl twice"
    plain.write_bytes(both + end)
    assert "disagree" in refusal(plain)


def test_a_member_inside_another_is_rejected(tmp_path: Path) -> None:
    inner = b"archive/data.pkl"
    pickled = checkpoint(tensor())
    header = (
        b"PK\x03\x04"
        + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, 16, 16, len(inner), 0)
        + inner
        + bytes(16)
    )
    path = zip_file(tmp_path / "x.pt", pickled, {"data/0": header, "data/1": b""})
    content = bytearray(path.read_bytes())
    nested = content.find(header)
    entry = directory_entry(path, 3)  # data/1 now points into data/0
    name = bytes(content[entry + 46 : entry + 46 + 14])
    assert name == b"archive/data/1"
    header_end = nested + 26
    content[header_end : header_end + 2] = struct.pack("<H", len(name))
    content[header_end + 4 : header_end + 4 + len(name)] = name
    struct.pack_into("<I", content, entry + 42, nested)
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 60_000])
def test_a_directory_length_that_differs_from_the_end_record_is_rejected(plain: Path, count: int) -> None:
    end = plain.read_bytes().rfind(b"PK\x05\x06")
    refusal(overwritten(plain, end + 8, "<HH", count, count))


def with_zip64_end(path: Path, **changes: int) -> Path:
    """The same zip with a zip64 end record, its fields changed."""
    content = path.read_bytes()
    end = content.rfind(b"PK\x05\x06")
    count, size, start = struct.unpack_from("<HII", content, end + 10)
    fields = {
        "disk": 0,
        "start_disk": 0,
        "here": count,
        "count": count,
        "size": size,
        "start": start,
        "at": end,
    } | changes
    record = b"PK\x06\x06" + struct.pack(
        "<QHHIIQQQQ",
        44,
        45,
        45,
        *(fields[k] for k in ("disk", "start_disk", "here", "count", "size", "start")),
    )
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, fields["at"], 1)
    path.write_bytes(content[:end] + record + locator + content[end:])
    return path


def test_a_consistent_zip64_end_record_is_read(plain: Path) -> None:
    assert open_weights(with_zip64_end(plain)).names == ("w",)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1 << 62, "here": 1 << 62},
        {"count": 2, "here": 2},
        {"size": (1 << 64) - 1},
        {"start": 0},
        {"start": (1 << 64) - 1},
        {"disk": 1},
        {"at": 0},
        {"at": (1 << 64) - 1},
    ],
    ids=str,
)
def test_an_inconsistent_zip64_end_record_is_rejected(plain: Path, changes: dict[str, int]) -> None:
    refusal(with_zip64_end(plain, **changes))


def test_a_zip_before_or_after_other_bytes_is_rejected(plain: Path) -> None:
    content = plain.read_bytes()
    for whole in (content + b"x", content + bytes(70_000), content[:4] + content, content + content[:1000]):
        plain.write_bytes(whole)
        refusal(plain)


def test_a_file_truncated_anywhere_is_rejected(plain: Path, tmp_path: Path) -> None:
    old = hostile.old_file(tmp_path / "old.pt", checkpoint(tensor()), {"0": bytes(16)})
    for path in (plain, old):
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            refusal(path)


def test_members_outside_the_folder_are_rejected(tmp_path: Path) -> None:
    for name in ("../../evil", "/etc/evil", "archive/../../evil", "other/data"):
        path = tmp_path / "x.pt"
        zip_file(path, checkpoint(tensor()))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        refusal(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


def test_an_old_file_with_a_wrong_list_of_storages_is_rejected(tmp_path: Path) -> None:
    pickled = checkpoint(tensor())
    good = {"0": bytes(16)}
    assert open_weights(hostile.old_file(tmp_path / "good.pt", pickled, good)).names == ("w",)
    for storages in ({}, {"1": bytes(16)}, {**good, "1": bytes(16)}, {"0": bytes(12)}, {"0": bytes(20)}):
        refusal(hostile.old_file(tmp_path / "x.pt", pickled, storages))


def test_an_old_file_that_claims_2_to_the_40_values_is_rejected(tmp_path: Path) -> None:
    huge = tensor((1 << 40,), (1,), of=storage(count=1 << 40))
    assert "is truncated" in refusal(hostile.old_file(tmp_path / "x.pt", checkpoint(huge), {"0": bytes(16)}))


def safetensors(path: Path, header: object, data: bytes = b"", *, raw: bytes | None = None) -> Path:
    content = raw if raw is not None else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "no object": [],
    "a tensor that is none": {"w": 1},
    "a missing field": {"w": {"dtype": "F32", "shape": [1]}},
    "an unknown type": {"w": {**ENTRY, "dtype": "F33"}},
    "a type that is not text": {"w": {**ENTRY, "dtype": ["F32"]}},
    "a shape that is not a list": {"w": {**ENTRY, "shape": 1}},
    "a negative size": {"w": {**ENTRY, "shape": [-1]}},
    "a size that is not an integer": {"w": {**ENTRY, "shape": [1.0]}},
    "a size that is a truth": {"w": {**ENTRY, "shape": [True]}},
    "a shape larger than the bytes": {"w": {**ENTRY, "shape": [1 << 40]}},
    "offsets backwards": {"w": {**ENTRY, "data_offsets": [4, 0]}},
    "offsets past the end": {"w": {**ENTRY, "shape": [2], "data_offsets": [0, 8]}},
    "two tensors over the same bytes": {"w": ENTRY, "v": ENTRY},
    "a gap": {"w": {**ENTRY, "shape": [0], "data_offsets": [2, 2]}},
    "bytes that nobody owns": {},
    "metadata that is not text": {"__metadata__": {"a": 1}, "w": ENTRY},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_an_inconsistent_safetensors_header_is_rejected(tmp_path: Path, header: object) -> None:
    refusal(safetensors(tmp_path / "x.safetensors", header, bytes(4)))


RAW_HEADERS = {
    "nested without end": b'{"a":' + b"[" * 1_000_000,
    "a number without end": b'{"a":' + b"9" * 1_000_000 + b"}",
    "a key twice": b'{"w":%s,"w":%s}' % ((b'{"dtype":"F32","shape":[],"data_offsets":[0,4]}',) * 2),
    "not UTF-8": b'{"\xff":1}',
    "cut": b'{"w":{"dtype":"F32","sh',
}


@pytest.mark.parametrize("raw", RAW_HEADERS.values(), ids=RAW_HEADERS)
def test_a_safetensors_header_that_is_not_json_is_rejected(tmp_path: Path, raw: bytes) -> None:
    refusal(safetensors(tmp_path / "x.safetensors", None, bytes(4), raw=raw))


def test_a_safetensors_header_longer_than_the_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 31) + b'{"w":')
    assert "its header claims" in refusal(path)


def mindspore(tag: bytes, body: bytes) -> bytes:
    value = b"\x0a" + bytes([len(tag)]) + tag + b"\x12" + bytes([len(body)]) + body
    return b"\x0a" + bytes([len(value)]) + value


FLOAT = b"\x12\x07Float32"
CHECKPOINTS = {
    "a length without end": b"\x0a" + b"\xff" * 100,
    "a length past the end": b"\x0a\xff\xff\xff\xff\x7f\x0a\x01w",
    "a tag past the end": b"\x0a\x04\x0a\xffw\x01",
    "dimensions without end": mindspore(b"w", b"\x0a\x64" + b"\xff" * 100),
    "a negative dimension": mindspore(b"w", b"\x08" + b"\xff" * 9 + b"\x01" + FLOAT + b"\x1a\x04" + bytes(4)),
    "more numbers than bytes": mindspore(b"w", b"\x08\xff\xff\xff\xff\x0f" + FLOAT + b"\x1a\x04" + bytes(4)),
    "an unknown data type": mindspore(b"w", b"\x12\x07Float33\x1a\x04" + bytes(4)),
    "no content": mindspore(b"w", b"\x08\x01" + FLOAT),
    "two contents": mindspore(b"w", b"\x08\x01" + FLOAT + (b"\x1a\x04" + bytes(4)) * 2),
    "a field of an unknown kind": mindspore(b"w", b"\x0d\x01\x01\x01\x01"),
    "a hash table": b"\x0a\x05\x0a\x01w\x1a\x00",
    "the same name apart": b"".join(
        mindspore(t, b"\x08\x01" + FLOAT + b"\x1a\x04" + bytes(4)) for t in (b"w", b"v", b"w")
    ),
    "a thousand dimensions": mindspore(b"w", b"\x0a\x7e" + b"\x01" * 126),
    "a wrong checksum": mindspore(b"w", b"\x08\x01" + FLOAT + b"\x1a\x04" + bytes(4))
    + b"crc_num"
    + bytes(10),
    "a million entries": mindspore(b"w", b"") * 1_000_000,
}


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_an_inconsistent_mindspore_checkpoint_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    refusal(path)


STRANGERS = {
    b"<!DOCTYPE html><html>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
    b"\x1f\x8b\x08": "gzip",
    b"\x80\x04\x95": "plain pickle",
    bytes(257) + b"ustar": "tar",
    b"PK\x03\x04": "is truncated",
    b"hello": "not a known weights format",
    b"\n": "not a known weights format",
}


@pytest.mark.parametrize(("start", "words"), STRANGERS.items(), ids=STRANGERS.values())
def test_the_error_names_the_kind_of_a_wrong_file(tmp_path: Path, start: bytes, words: str) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(start)
    assert words in refusal(path)


def test_reading_a_pipe_or_device_does_not_block(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "other than a file" in refusal(tmp_path / "pipe")
    assert refusal(tmp_path / "nowhere") == "no such file"
