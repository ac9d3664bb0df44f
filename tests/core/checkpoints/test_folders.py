import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from tests.core.checkpoints.reference import GOLDEN

ARRAYS = {f"layer.{index}": np.full((2, 3), index, np.float32) for index in range(4)}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    names = list(ARRAYS)
    parts = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, held in parts.items():
        save_file({name: ARRAYS[name] for name in held}, tmp_path / file)
    write_index(tmp_path, {name: file for file, held in parts.items() for name in held})
    return tmp_path


def write_index(folder: Path, table: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))


def test_the_tensors_of_all_shards_are_read_as_one_set(sharded: Path) -> None:
    for source in (sharded, sharded / "model.safetensors.index.json"):
        weights = open_weights(source)
        assert {name: weights.read(name).tolist() for name in weights.names} == {
            name: array.tolist() for name, array in ARRAYS.items()
        }
        assert [file.name for file in weights.files][1:] == ["model-1.safetensors", "model-2.safetensors"]


@pytest.mark.parametrize(
    "file",
    ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "", "..", "a\\b", "x\n", 3, None, ["x"]],
    ids=repr,
)
def test_an_index_can_only_name_files_in_its_folder(sharded: Path, file: object) -> None:
    shutil.copy(sharded / "model-1.safetensors", sharded.parent / "x.safetensors")
    write_index(sharded, {"layer.0": file})
    with pytest.raises(LatteError) as caught:
        open_weights(sharded)
    fault = f"{sharded / 'model.safetensors.index.json'}: weight_map.layer.0: found "
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', "[" * 100_000]
)
def test_an_invalid_index_is_rejected(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(LatteError, match=r"index\.json: "):
        open_weights(sharded)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-2.safetensors").unlink()
    with pytest.raises(LatteError, match=r"index\.json: its shard model-2\.safetensors is missing"):
        open_weights(sharded)


def test_a_shard_that_does_not_match_the_index_is_rejected(sharded: Path) -> None:
    save_file({"other": ARRAYS["layer.3"]}, sharded / "model-2.safetensors")
    with pytest.raises(LatteError, match=r"model-2\.safetensors and the index disagree about layer\.3"):
        open_weights(sharded)


def test_a_part_of_a_pipeline_is_chosen_by_kind(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    shutil.copytree(GOLDEN / "vae/diffusers", tmp_path / "vae")
    assert len(open_weights(tmp_path).names) == 244
    (tmp_path / "transformer").mkdir()
    with pytest.raises(LatteError, match="several models; choose one with --kind vae or --kind t2v"):
        open_weights(tmp_path)
    assert len(open_weights(tmp_path, kind="vae").names) == 244
    with pytest.raises(LatteError, match="no model of kind latte"):
        open_weights(tmp_path, kind="latte")


def test_a_folder_without_weights_or_with_several_files_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match="a folder without weights"):
        open_weights(tmp_path)
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).touch()
    with pytest.raises(LatteError, match=r"contains a\.bin and b\.bin; give one of them"):
        open_weights(tmp_path)
