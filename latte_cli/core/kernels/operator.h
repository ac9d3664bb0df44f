// The signature MindSpore calls a custom operator by (ops.Custom, func_type "aot"): inputs, then outputs, in `params`.
#pragma once

#include <cstdint>

#define LATTE_KERNEL(name)                                                                                           \
  extern "C" int name([[maybe_unused]] int count, void** params, [[maybe_unused]] int* ndims, int64_t** shapes,      \
                      [[maybe_unused]] const char** dtypes, [[maybe_unused]] void* stream, [[maybe_unused]] void* extra)

namespace latte {

inline float* floats(void** params, int i) { return static_cast<float*>(params[i]); }

}  // namespace latte
