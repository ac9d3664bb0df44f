"""Batches of clips for training, from frames or from memory."""
