// Softmax over the last axis of float32, one pass with its gradient. MindSpore's has errors of 27 units in the last place.
#include "maths.h"
#include "operator.h"
#include "parallel.h"

namespace latte {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kCost = 12;  // per number, in additions

struct Rows {
  int64_t rows = 1, width;
  Rows(const int64_t* shape, int ndim) : width(shape[ndim - 1]) {
    for (int i = 0; i + 1 < ndim; ++i) rows *= shape[i];
  }
  // Calls body(the row's first number) for every row.
  template <class Body>
  void each(const Body& body) const {
    parallel_for((rows + kRows - 1) / kRows, kCost * rows * width, [&](int64_t chunk) {
      const int64_t stop = (chunk + 1) * kRows < rows ? (chunk + 1) * kRows : rows;
      for (int64_t i = chunk * kRows; i < stop; ++i) body(i * width);
    });
  }
};

}  // namespace
}  // namespace latte

using namespace latte;

// x (..., N) -> y (..., N)
LATTE_KERNEL(LatteSoftmax) {
  const Rows d(shapes[0], ndims[0]);
  d.each([&](int64_t at) {
    const float* __restrict x = floats(params, 0) + at;
    float* __restrict y = floats(params, 1) + at;
    float top = x[0], sum = 0.0f;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < d.width; ++j) top = x[j] > top ? x[j] : top;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d.width; ++j) {
      y[j] = exp_fast(x[j] - top);
      sum += y[j];
    }
    const float share = 1.0f / sum;
#pragma omp simd
    for (int64_t j = 0; j < d.width; ++j) y[j] *= share;
  });
  return 0;
}

// y, dy -> dx (..., N)
LATTE_KERNEL(LatteSoftmaxGrad) {
  const Rows d(shapes[0], ndims[0]);
  d.each([&](int64_t at) {
    const float* __restrict y = floats(params, 0) + at;
    const float* __restrict dy = floats(params, 1) + at;
    float* __restrict dx = floats(params, 2) + at;
    float along = 0.0f;
#pragma omp simd reduction(+ : along)
    for (int64_t j = 0; j < d.width; ++j) along += y[j] * dy[j];
#pragma omp simd
    for (int64_t j = 0; j < d.width; ++j) dx[j] = y[j] * (dy[j] - along);
  });
  return 0;
}
