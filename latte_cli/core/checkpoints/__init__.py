"""Read and write weights: PyTorch, safetensors and MindSpore files, without executing anything in them."""
