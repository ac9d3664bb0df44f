// Small matrix products on buffers with rows padded to complete vectors: for attention's heads, which are too small for calls of
// a library.
#pragma once

#include <cstdint>

namespace latte {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kPanel = 4;  // floats per vector; vectors of a tile's width, limited by registers
#elif defined(__AVX__)
constexpr int kLanes = 8, kPanel = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kPanel = 4;
#else
constexpr int kLanes = 4, kPanel = 2;
#endif
constexpr int kTileRows = 6;

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

// The row length, in floats, for `width` numbers: an odd number of complete vectors, so that rows do not share cache sets.
inline int64_t padded(int64_t width) { return (((width + kLanes - 1) / kLanes) | 1) * kLanes; }

// Element (i, k) of a factor is at data + i * row + k * column.
struct Strided {
  const float* data;
  int64_t row, column;
};

template <int kHeight, int kWidth>
inline void tile(int64_t depth, Strided a, const float* b, int64_t b_row, float* c, int64_t c_row, bool add) {
  Lanes sums[kHeight][kWidth];
#pragma GCC unroll 8
  for (int i = 0; i < kHeight; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kWidth; ++j) {
      sums[i][j] = add ? *reinterpret_cast<const Lanes*>(c + i * c_row + j * kLanes) : Lanes{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Lanes right[kWidth];
#pragma GCC unroll 8
    for (int j = 0; j < kWidth; ++j) right[j] = *reinterpret_cast<const Lanes*>(b + k * b_row + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kHeight; ++i) {
      const float left = a.data[i * a.row + k * a.column];
#pragma GCC unroll 8
      for (int j = 0; j < kWidth; ++j) sums[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kHeight; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kWidth; ++j) *reinterpret_cast<Lanes*>(c + i * c_row + j * kLanes) = sums[i][j];
  }
}

template <int kWidth>
inline void panel(int64_t height, int64_t depth, Strided a, const float* b, int64_t b_row, float* c, int64_t c_row, bool add) {
  int64_t i = 0;
  const auto at = [&](int64_t row) { return Strided{a.data + row * a.row, a.row, a.column}; };
  for (; i + kTileRows <= height; i += kTileRows) {
    tile<kTileRows, kWidth>(depth, at(i), b, b_row, c + i * c_row, c_row, add);
  }
  switch (height - i) {
    case 5: tile<5, kWidth>(depth, at(i), b, b_row, c + i * c_row, c_row, add); break;
    case 4: tile<4, kWidth>(depth, at(i), b, b_row, c + i * c_row, c_row, add); break;
    case 3: tile<3, kWidth>(depth, at(i), b, b_row, c + i * c_row, c_row, add); break;
    case 2: tile<2, kWidth>(depth, at(i), b, b_row, c + i * c_row, c_row, add); break;
    case 1: tile<1, kWidth>(depth, at(i), b, b_row, c + i * c_row, c_row, add); break;
    default: break;
  }
}

// c (height x width) = a (height x depth) b (depth x width), or c += with `add`. b's and c's rows have padded(width) floats; values
// past `width` in c are undefined.
inline void multiply(int64_t height, int64_t width, int64_t depth, Strided a, const float* b, int64_t b_row, float* c,
                     int64_t c_row, bool add) {
  int64_t vectors = (width + kLanes - 1) / kLanes;
  while (vectors > 0) {
    const int64_t now = vectors < kPanel ? vectors : kPanel;
    switch (now) {
      case 4: panel<(kPanel >= 4 ? 4 : 1)>(height, depth, a, b, b_row, c, c_row, add); break;
      case 3: panel<(kPanel >= 3 ? 3 : 1)>(height, depth, a, b, b_row, c, c_row, add); break;
      case 2: panel<2>(height, depth, a, b, b_row, c, c_row, add); break;
      default: panel<1>(height, depth, a, b, b_row, c, c_row, add); break;
    }
    b += now * kLanes;
    c += now * kLanes;
    vectors -= now;
  }
}

}  // namespace latte
