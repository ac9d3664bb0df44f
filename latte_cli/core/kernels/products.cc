// Matrix products of float32 and their gradients. A result's bits do not depend on the number of threads.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "matrix.h"
#include "operator.h"
#include "parallel.h"

namespace latte {
namespace {

constexpr int64_t kWidth = kPanel * kLanes;  // columns per panel
constexpr int64_t kRows = 16 * kTileRows;    // rows per task
constexpr int64_t kStripRows = 8 * kTileRows;  // the same for operands read across rows
constexpr int64_t kPacked = 1 << 21;           // numbers of b that are packed at once
constexpr int64_t kFewRows = 4;                // up to this number packing would take longer than the product
constexpr int64_t kDepth = 512;              // of a panel that stays in a core's cache

// c (rows x columns) = a (rows x depth) b (depth x columns); c is contiguous.
struct Product {
  Strided a, b;
  float* c;
  int64_t rows, columns, depth;

  int64_t panels() const { return (columns + kWidth - 1) / kWidth; }
  int64_t width(int64_t panel) const { return std::min(kWidth, columns - panel * kWidth); }
  bool lies_across() const { return a.column != 1; }
  int64_t at_once() const { return lies_across() ? kStripRows : kRows; }
};

// Memory of this thread, reused between calls.
float* packing(int64_t floats) {
  static thread_local std::unique_ptr<float, decltype(&std::free)> memory(nullptr, &std::free);
  static thread_local int64_t size = 0;
  if (floats > size) {
    memory.reset(static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
    size = memory ? floats : 0;
  }
  return memory.get();
}

// `width` columns of `depth` rows of b, packed: element (k, j) at to[k * kWidth + j], zeros from `width` on.
void pack(Strided b, int64_t depth, int64_t width, float* __restrict to) {
  for (int64_t k = 0; k < depth; k += kLanes) {
    const int64_t deep = std::min<int64_t>(kLanes, depth - k);
    if (b.column == 1) {
      for (int64_t i = 0; i < deep; ++i) std::memcpy(to + (k + i) * kWidth, b.data + (k + i) * b.row, width * sizeof(float));
    } else {
      for (int64_t j = 0; j < width; ++j) {
        for (int64_t i = 0; i < deep; ++i) to[(k + i) * kWidth + j] = b.data[(k + i) * b.row + j * b.column];
      }
    }
    for (int64_t i = 0; i < deep; ++i) std::fill(to + (k + i) * kWidth + width, to + (k + i + 1) * kWidth, 0.0f);
  }
}

// Rows from `start` on of panels `first` to `last`, packed one after the other. What is past the last column is computed aside.
void multiply_rows(const Product& p, int64_t start, int64_t first, int64_t last, const float* packed) {
  static thread_local float strip[kDepth * kStripRows];
  alignas(64) float aside[kRows * kWidth];
  const int64_t rows = std::min(p.at_once(), p.rows - start);
  for (int64_t k = 0; k < p.depth; k += kDepth) {
    const int64_t deep = std::min(kDepth, p.depth - k);
    Strided a{p.a.data + start * p.a.row + k * p.a.column, p.a.row, p.a.column};
    if (p.lies_across()) {
      for (int64_t i = 0; i < deep; ++i) std::memcpy(strip + i * kStripRows, a.data + i * a.column, rows * sizeof(float));
      a = {strip, 1, kStripRows};
    }
    for (int64_t panel = first; panel < last; ++panel) {
      const bool ragged = p.width(panel) % kLanes != 0;
      float* c = ragged ? aside : p.c + start * p.columns + panel * kWidth;
      const float* b = packed + ((panel - first) * p.depth + k) * kWidth;
      multiply(rows, p.width(panel), deep, a, b, kWidth, c, ragged ? kWidth : p.columns, k > 0);
    }
  }
  const int64_t whole = p.columns / kWidth * kWidth, rest = p.columns - whole;
  if (rest % kLanes == 0 || last < p.panels()) return;
  for (int64_t i = 0; i < rows; ++i) std::memcpy(p.c + (start + i) * p.columns + whole, aside + i * kWidth, rest * sizeof(float));
}

int compute(const Product& p) {
  const int64_t panel = kWidth * p.depth, at_once = std::clamp<int64_t>(kPacked / panel, 1, p.panels());
  const int64_t splits = (p.depth + kDepth - 1) / kDepth, chunks = (p.rows + p.at_once() - 1) / p.at_once();
  float* packed = packing(at_once * panel);
  if (packed == nullptr) return 1;
  for (int64_t first = 0; first < p.panels(); first += at_once) {
    const int64_t number = std::min(at_once, p.panels() - first), groups = p.lies_across() ? 1 : number;
    parallel_for(number * splits, number * panel, [&](int64_t task) {
      const int64_t place = task / splits, column = (first + place) * kWidth, k = task % splits * kDepth;
      const Strided b{p.b.data + k * p.b.row + column * p.b.column, p.b.row, p.b.column};
      pack(b, std::min(kDepth, p.depth - k), p.width(first + place), packed + place * panel + k * kWidth);
    });
    parallel_for(groups * chunks, p.rows * number * panel / kLanes, [&](int64_t task) {
      const int64_t start = task / chunks * (number / groups), stop = start + number / groups;
      multiply_rows(p, task % chunks * p.at_once(), first + start, first + stop, packed + start * panel);
    });
  }
  return 0;
}

// The same for few rows, with b's columns read in place.
int compute_few(const Product& p) {
  parallel_for(p.panels(), p.rows * p.columns * p.depth / 4, [&](int64_t panel) {
    for (int64_t j = panel * kWidth; j < panel * kWidth + p.width(panel); ++j) {
      for (int64_t i = 0; i < p.rows; ++i) {
        const float *__restrict x = p.a.data + i * p.a.row, *__restrict w = p.b.data + j * p.b.column;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < p.depth; ++k) sum += x[k] * w[k];
        p.c[i * p.columns + j] = sum;
      }
    }
  });
  return 0;
}

// All axes before the last are treated as one.
int64_t rows_of(const int64_t* shape, int ndim) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < ndim; ++i) rows *= shape[i];
  return rows;
}

// x (..., K) w^T of the first two parameters, w (N, K), to c (..., N)
Product of_rows(void** params, int* ndims, int64_t** shapes, float* c) {
  const int64_t depth = shapes[1][1];
  const Strided x{floats(params, 0), depth, 1}, w{floats(params, 1), 1, depth};
  return {x, w, c, rows_of(shapes[0], ndims[0]), shapes[1][0], depth};
}

int compute_any(const Product& p) { return p.rows > kFewRows ? compute(p) : compute_few(p); }

}  // namespace
}  // namespace latte

using namespace latte;

// x (..., K), w (N, K) -> x w^T (..., N)
LATTE_KERNEL(LatteProduct) {
  return compute_any(of_rows(params, ndims, shapes, floats(params, 2)));
}

// x (..., K), w (N, K), bias (N) -> x w^T + bias (..., N)
LATTE_KERNEL(LatteLinear) {
  const Product p = of_rows(params, ndims, shapes, floats(params, 3));
  const float* __restrict bias = floats(params, 2);
  const int status = compute_any(p);
  if (status != 0) return status;
  parallel_for((p.rows + kRows - 1) / kRows, p.rows * p.columns, [&](int64_t chunk) {
    for (int64_t i = chunk * kRows; i < std::min((chunk + 1) * kRows, p.rows); ++i) {
      float* __restrict y = p.c + i * p.columns;
#pragma omp simd
      for (int64_t j = 0; j < p.columns; ++j) y[j] += bias[j];
    }
  });
  return 0;
}

// dy (..., N), w (N, K) -> dx (..., K) = dy w
LATTE_KERNEL(LatteProductGradX) {
  const int64_t outputs = shapes[1][0], inputs = shapes[1][1];
  const Strided dy{floats(params, 0), outputs, 1}, w{floats(params, 1), inputs, 1};
  return compute({dy, w, floats(params, 2), rows_of(shapes[0], ndims[0]), inputs, outputs});
}

// dy (..., N), x (..., K) -> dw (N, K) = dy^T x
LATTE_KERNEL(LatteProductGradW) {
  const int64_t outputs = shapes[0][ndims[0] - 1], inputs = shapes[1][ndims[1] - 1];
  const Strided dy{floats(params, 0), 1, outputs}, x{floats(params, 1), inputs, 1};
  return compute({dy, x, floats(params, 2), outputs, inputs, rows_of(shapes[0], ndims[0])});
}
