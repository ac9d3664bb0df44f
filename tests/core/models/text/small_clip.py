"""A CLIP text encoder for tests."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def save_clip(folder: Path, *, width: int, heads: int, layers: int) -> Path:
    """A small CLIP text encoder with random weights, as transformers saves one, and its tokenizer."""
    folder.mkdir(exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "ca",
        "cat</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    config = {
        "model_type": "clip_text_model",
        "architectures": ["CLIPTextModel"],
        "vocab_size": len(words),
        "hidden_size": width,
        "intermediate_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": "quick_gelu",
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "embeddings.token_embedding.weight": (len(words), width),
        "embeddings.position_embedding.weight": (77, width),
    }
    for place in range(layers):
        layer = f"encoder.layers.{place}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {
                f"{layer}.self_attn.{name}.weight": (width, width),
                f"{layer}.self_attn.{name}.bias": (width,),
            }
        shapes |= {f"{layer}.mlp.fc1.weight": (24, width), f"{layer}.mlp.fc1.bias": (24,)}
        shapes |= {f"{layer}.mlp.fc2.weight": (width, 24), f"{layer}.mlp.fc2.bias": (width,)}
    for name in [f"encoder.layers.{place}.layer_norm{one}" for place in range(layers) for one in (1, 2)] + [
        "final_layer_norm"
    ]:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    generator = np.random.default_rng(0)
    arrays = {
        f"text_model.{name}": generator.normal(0.1, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
