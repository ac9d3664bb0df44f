"""The operators that MindSpore is slow at on a CPU, in C++, each with a path of plain operators."""
