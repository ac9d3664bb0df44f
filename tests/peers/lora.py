"""Adapters written by peft, for tests/golden/lora, and those of `latte convert --to torch`, read by peft.

In the venv that tests/golden/README.md describes, with `pip install peft` too:

    .venv-torch/bin/python tests/peers/lora.py                 records tests/golden/lora
    .venv-torch/bin/python tests/peers/lora.py check FOLDER    what peft makes of a folder of ours
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import LatteTransformer3DModel
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"
TARGET = GOLDEN / "lora"


def transformer() -> nn.Module:
    """The tiny pipeline's."""
    return LatteTransformer3DModel.from_pretrained(GOLDEN / "t2v" / "pipeline" / "transformer").eval()


def output(model: nn.Module) -> np.ndarray:
    """A model's output for the recorded inputs: (B, C, F, h, w)."""
    recorded = np.load(GOLDEN / "t2v" / "transformer_golden.npz")
    names = ("hidden_states", "timestep", "encoder_hidden_states")
    inputs = {name: torch.from_numpy(recorded[name]) for name in names}
    with torch.no_grad():
        return model(**inputs, enable_temporal_attentions=True, return_dict=False)[0].numpy()


def record() -> None:
    """Random adapters of two ranks and two alphas, as saved by peft, and their outputs."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["to_q", "to_out.0"],
        rank_pattern={"transformer_blocks.1.attn2.to_q": 3},
        alpha_pattern={"transformer_blocks.1.attn2.to_q": 5},
    )
    model = get_peft_model(transformer(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(TARGET)
    (TARGET / "README.md").unlink(missing_ok=True)
    with_adapters = output(model)
    merged = model.merge_and_unload().state_dict()
    kept = {name: merged[name].numpy() for name in merged if "attn2.to_q" in name or "attn1.to_out.0" in name}
    np.savez_compressed(TARGET / "golden.npz", out=with_adapters, **kept)
    config_file = TARGET / "adapter_config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()), indent=1, sort_keys=True) + "\n")


def check(folder: Path) -> None:
    """Whether peft reads our folder as the adapters it was written from: tests/golden/lora."""
    found = output(PeftModel.from_pretrained(transformer(), folder))
    wanted = np.load(TARGET / "golden.npz")["out"]
    print(f"greatest difference {np.abs(found - wanted).max():.3g} of {np.abs(wanted).max():.3g}")


if __name__ == "__main__":
    check(Path(sys.argv[2])) if sys.argv[1:2] == ["check"] else record()
