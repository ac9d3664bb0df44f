"""Evaluate generated clips: distance of the set to real clips, and similarity to the nearest real clip."""
