"""C++ kernels for operators that are slow in MindSpore on a CPU, with fallbacks to MindSpore's operators."""
