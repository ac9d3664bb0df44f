"""We read random state dicts of PyTorch, and PyTorch reads files of `--to torch`, bit for bit.

    python tests/peers/check_torch_files.py --torch-python /path/to/python-with-torch [--count 200]

Both formats, pickle protocols 2 to 5, every float type, views with offsets, strides, repetition and shared
storages, parameters, nested training checkpoints with optimizer, arguments and other things next to
weights.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.save import save_weights

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.core.checkpoints.reference import digest

WRITE = """
import argparse, collections, hashlib, json, pathlib, random, sys, torch
folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]

def digest(tensor):
    dtype = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach().contiguous()
    tensor = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return f"{dtype} {hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:32]}"

def view(base):
    kind = random.randrange(7)
    if kind == 0: return base
    if kind == 1: return base.t()
    if kind == 2: return base[1:, ::2]
    if kind == 3: return base.reshape(-1)[random.randrange(5):]
    if kind == 4: return base[0].expand(3, -1)
    if kind == 5: return base.reshape(-1)[3]
    return base[:, None].contiguous(memory_format=torch.contiguous_format).permute(2, 0, 1)

known = {}
for index in range(count):
    random.seed(index); torch.manual_seed(index)
    side = lambda: random.randrange(2, 9)
    bases = [(torch.randn(side(), side()) * 9).to(random.choice(TYPES)) for _ in range(4)]
    state = collections.OrderedDict((f"layer.{i}", view(random.choice(bases))) for i in range(side()))
    if random.random() < 0.3:
        state = {k: torch.nn.Parameter(v) if v.dtype.is_floating_point else v for k, v in state.items()}
    more = [torch.Size([1, 2]), torch.device("cpu"), torch.float16, b"x", 2**70]
    more.append(collections.defaultdict(dict))
    beside = {"ema": None, "epoch": 3, "args": argparse.Namespace(lr=1e-4, path="x", s={1, 2}), "more": more}
    beside["opt"] = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict()
    averaged = {"ema": state, "model": {"x": torch.zeros(2)}}
    content = {"bare": state, "ema": averaged, "model": {"model": state, **beside}}
    section = random.choice(list(content))
    path = folder / f"{index}.pt"
    new, protocol = random.random() < 0.6, random.randrange(2, 6)
    torch.save(content[section], path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    known[path.name] = [section, {k: digest(v) for k, v in state.items()}]
(folder / "known.json").write_text(json.dumps(known))
"""
READ_BACK = """
import hashlib, json, pathlib, sys, torch
folder = pathlib.Path(sys.argv[1])
def digest(tensor):
    dtype = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return f"{dtype} {hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:32]}"
for name, (_, expected) in json.loads((folder / "known.json").read_text()).items():
    state = torch.load(folder / ("back_" + name), weights_only=True)["ema"]
    assert {k: digest(v) for k, v in state.items()} == expected, name
"""


def main() -> None:
    """Have PyTorch write, read it, write it again, have PyTorch read that."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--count", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([chosen.torch_python, "-c", WRITE, folder, str(chosen.count)], check=True)
        known = json.loads((Path(folder) / "known.json").read_text())
        for name, (section, expected) in known.items():
            weights = open_weights(Path(folder) / name)
            found = {key: digest(tensor.bits(), tensor.dtype.name) for key, tensor in weights.tensors.items()}
            if (weights.section, found) != (section, expected):
                raise SystemExit(f"{name} of {chosen.count} files is read otherwise than PyTorch reads it")
            save_weights(Path(folder) / f"back_{name}", weights.tensors, entry="ema")
        subprocess.run([chosen.torch_python, "-c", READ_BACK, folder], check=True)
    print(f"{len(known)} files of PyTorch read bit for bit, and written so that PyTorch reads the same")


if __name__ == "__main__":
    main()
