"""This machine: the device of MindSpore, total and free memory, stop signals."""
