// Layer norm with modulation, gated residual, tanh GELU and SiLU over float32, each one pass with its gradient.
//
// Sums over rows are computed for chunks of kRows rows, then over the chunks in order, independently of threads.
#include <cmath>
#include <vector>

#include "maths.h"
#include "operator.h"
#include "parallel.h"

namespace latte {
namespace {

constexpr int64_t kRows = 32;
constexpr float kLayerNormEps = 1e-6f;

// A tensor (batch, rows, width) and the chunks of its rows, none of which spans two batch entries.
struct Rows {
  int64_t batch, rows, width, chunks;
  Rows(int64_t batch_, int64_t rows_, int64_t width_)
      : batch(batch_), rows(rows_), width(width_), chunks((rows_ + kRows - 1) / kRows) {}
  explicit Rows(const int64_t* shape) : Rows(shape[0], shape[1], shape[2]) {}
  // Any (..., width) tensor as one batch entry.
  static Rows flat(const int64_t* shape, int ndim) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < ndim; ++i) rows *= shape[i];
    return Rows(1, rows, shape[ndim - 1]);
  }
  int64_t size() const { return batch * rows * width; }
};

// Calls body(entry, first row, one past the last, chunk) for every chunk; rows are counted over the whole batch.
template <class Body>
void for_chunks(const Rows& d, int64_t cost, const Body& body) {
  parallel_for(d.batch * d.chunks, cost * d.size(), [&](int64_t chunk) {
    const int64_t entry = chunk / d.chunks, start = (chunk % d.chunks) * kRows;
    const int64_t stop = start + kRows < d.rows ? start + kRows : d.rows;
    body(entry, entry * d.rows + start, entry * d.rows + stop, chunk);
  });
}

// out[j] = sum over `count` rows of `width` numbers, `stride` apart, in order.
void sum_rows(const float* rows, int64_t count, int64_t stride, int64_t width, float* out) {
  for (int64_t j = 0; j < width; ++j) out[j] = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < width; ++j) out[j] += rows[i * stride + j];
  }
}

struct Moments {
  float mean, rstd;
};

Moments moments(const float* x, int64_t width) {
  float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < width; ++j) sum += x[j];
  const float mean = sum / static_cast<float>(width);
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < width; ++j) squares += (x[j] - mean) * (x[j] - mean);
  return {mean, 1.0f / std::sqrt(squares / static_cast<float>(width) + kLayerNormEps)};
}

// One row of the gradient, and y again; adds to the sums over rows of dy and dy * xhat.
void layer_norm_row_grad(const float* __restrict x, const float* __restrict dy, const float* __restrict shift,
                         const float* __restrict scale, int64_t width, float* __restrict dx, float* __restrict y,
                         float* __restrict dshift, float* __restrict dscale) {
  const Moments m = moments(x, width);
  float sum_g = 0.0f, sum_gx = 0.0f;
#pragma omp simd reduction(+ : sum_g, sum_gx)
  for (int64_t j = 0; j < width; ++j) {
    const float xhat = (x[j] - m.mean) * m.rstd, g = dy[j] * (1.0f + scale[j]);
    sum_g += g;
    sum_gx += g * xhat;
  }
  const float mean_g = sum_g / static_cast<float>(width), mean_gx = sum_gx / static_cast<float>(width);
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) {
    const float xhat = (x[j] - m.mean) * m.rstd, g = dy[j] * (1.0f + scale[j]);
    dx[j] = m.rstd * (g - mean_g - xhat * mean_gx);
    y[j] = xhat * (1.0f + scale[j]) + shift[j];
    dshift[j] += dy[j];
    dscale[j] += dy[j] * xhat;
  }
}

constexpr float kGeluA = 0.7978845608028654f;  // sqrt(2 / pi); Hendrycks and Gimpel 2016
constexpr float kGeluB = 0.044715f;

// gelu(x) = x * gelu_share(x)
inline float gelu_share(float x) { return sigmoid(2.0f * kGeluA * x * (1.0f + kGeluB * x * x)); }

inline float gelu_slope(float x, float s) {
  return s + x * s * (1.0f - s) * 2.0f * kGeluA * (1.0f + 3.0f * kGeluB * x * x);
}

}  // namespace
}  // namespace latte

using namespace latte;

// x (B, N, D), shift (B, D), scale (B, D) -> y (B, N, D)
LATTE_KERNEL(LatteLayerNorm) {
  const Rows d(shapes[0]);
  for_chunks(d, 4, [&](int64_t entry, int64_t start, int64_t stop, int64_t) {
    const float* __restrict shift = floats(params, 1) + entry * d.width;
    const float* __restrict scale = floats(params, 2) + entry * d.width;
    for (int64_t i = start; i < stop; ++i) {
      const float* __restrict x = floats(params, 0) + i * d.width;
      float* __restrict y = floats(params, 3) + i * d.width;
      const Moments m = moments(x, d.width);
#pragma omp simd
      for (int64_t j = 0; j < d.width; ++j) y[j] = (x[j] - m.mean) * m.rstd * (1.0f + scale[j]) + shift[j];
    }
  });
  return 0;
}

// x, shift, scale, dy -> dx (B, N, D), dshift (B, D), dscale (B, D), y (B, N, D)
LATTE_KERNEL(LatteLayerNormGrad) {
  const Rows d(shapes[0]);
  std::vector<float> partial(d.batch * d.chunks * 2 * d.width, 0.0f);
  for_chunks(d, 8, [&](int64_t entry, int64_t start, int64_t stop, int64_t chunk) {
    float* dshift = partial.data() + chunk * 2 * d.width;
    for (int64_t i = start; i < stop; ++i) {
      layer_norm_row_grad(floats(params, 0) + i * d.width, floats(params, 3) + i * d.width,
                          floats(params, 1) + entry * d.width, floats(params, 2) + entry * d.width, d.width,
                          floats(params, 4) + i * d.width, floats(params, 7) + i * d.width, dshift, dshift + d.width);
    }
  });
  for (int64_t entry = 0; entry < d.batch; ++entry) {
    const float* first = partial.data() + entry * d.chunks * 2 * d.width;
    sum_rows(first, d.chunks, 2 * d.width, d.width, floats(params, 5) + entry * d.width);
    sum_rows(first + d.width, d.chunks, 2 * d.width, d.width, floats(params, 6) + entry * d.width);
  }
  return 0;
}

// x (B, N, D), gate (B, D), y (B, N, D), bias (D) -> x + gate * (y + bias)
LATTE_KERNEL(LatteGatedResidual) {
  const Rows d(shapes[0]);
  const float* __restrict bias = floats(params, 3);
  for_chunks(d, 2, [&](int64_t entry, int64_t start, int64_t stop, int64_t) {
    const float* __restrict gate = floats(params, 1) + entry * d.width;
    for (int64_t i = start; i < stop; ++i) {
      const float* __restrict x = floats(params, 0) + i * d.width;
      const float* __restrict y = floats(params, 2) + i * d.width;
      float* __restrict out = floats(params, 4) + i * d.width;
#pragma omp simd
      for (int64_t j = 0; j < d.width; ++j) out[j] = x[j] + gate[j] * (y[j] + bias[j]);
    }
  });
  return 0;
}

// gate, y, bias, dout -> dgate (B, D), dy (B, N, D), dbias (D)
LATTE_KERNEL(LatteGatedResidualGrad) {
  const Rows d(shapes[1]);
  const float* __restrict bias = floats(params, 2);
  std::vector<float> partial(d.batch * d.chunks * 2 * d.width, 0.0f);
  for_chunks(d, 3, [&](int64_t entry, int64_t start, int64_t stop, int64_t chunk) {
    const float* __restrict gate = floats(params, 0) + entry * d.width;
    float* __restrict dgate = partial.data() + chunk * 2 * d.width;
    float* __restrict total = dgate + d.width;
    for (int64_t i = start; i < stop; ++i) {
      const float* __restrict y = floats(params, 1) + i * d.width;
      const float* __restrict dout = floats(params, 3) + i * d.width;
      float* __restrict dy = floats(params, 5) + i * d.width;
#pragma omp simd
      for (int64_t j = 0; j < d.width; ++j) {
        dy[j] = gate[j] * dout[j];
        dgate[j] += dout[j] * (y[j] + bias[j]);
        total[j] += dy[j];
      }
    }
  });
  for (int64_t entry = 0; entry < d.batch; ++entry) {
    sum_rows(partial.data() + entry * d.chunks * 2 * d.width, d.chunks, 2 * d.width, d.width,
             floats(params, 4) + entry * d.width);
  }
  sum_rows(partial.data() + d.width, d.batch * d.chunks, 2 * d.width, d.width, floats(params, 6));
  return 0;
}

// x (..., D), bias (D) -> gelu(x + bias)
LATTE_KERNEL(LatteBiasGelu) {
  const Rows d = Rows::flat(shapes[0], ndims[0]);
  const float* __restrict bias = floats(params, 1);
  for_chunks(d, 12, [&](int64_t, int64_t start, int64_t stop, int64_t) {
    for (int64_t i = start; i < stop; ++i) {
      const float* __restrict x = floats(params, 0) + i * d.width;
      float* __restrict y = floats(params, 2) + i * d.width;
#pragma omp simd
      for (int64_t j = 0; j < d.width; ++j) y[j] = (x[j] + bias[j]) * gelu_share(x[j] + bias[j]);
    }
  });
  return 0;
}

// x, bias, dy -> dx (..., D), dbias (D), y (..., D), the forward result
LATTE_KERNEL(LatteBiasGeluGrad) {
  const Rows d = Rows::flat(shapes[0], ndims[0]);
  const float* __restrict bias = floats(params, 1);
  std::vector<float> partial(d.batch * d.chunks * d.width, 0.0f);
  for_chunks(d, 16, [&](int64_t, int64_t start, int64_t stop, int64_t chunk) {
    float* __restrict dbias = partial.data() + chunk * d.width;
    for (int64_t i = start; i < stop; ++i) {
      const float* __restrict x = floats(params, 0) + i * d.width;
      const float* __restrict dy = floats(params, 2) + i * d.width;
      float* __restrict dx = floats(params, 3) + i * d.width;
      float* __restrict y = floats(params, 5) + i * d.width;
#pragma omp simd
      for (int64_t j = 0; j < d.width; ++j) {
        const float in = x[j] + bias[j], share = gelu_share(in);
        dx[j] = dy[j] * gelu_slope(in, share);
        y[j] = in * share;
        dbias[j] += dx[j];
      }
    }
  });
  sum_rows(partial.data(), d.batch * d.chunks, d.width, d.width, floats(params, 4));
  return 0;
}

// x (..., D) -> x sigmoid(x)
LATTE_KERNEL(LatteSilu) {
  const Rows d = Rows::flat(shapes[0], ndims[0]);
  for_chunks(d, 12, [&](int64_t, int64_t start, int64_t stop, int64_t) {
    const float* __restrict x = floats(params, 0);
    float* __restrict y = floats(params, 1);
#pragma omp simd
    for (int64_t i = start * d.width; i < stop * d.width; ++i) y[i] = x[i] * sigmoid(x[i]);
  });
  return 0;
}

// x, dy -> dx (..., D)
LATTE_KERNEL(LatteSiluGrad) {
  const Rows d = Rows::flat(shapes[0], ndims[0]);
  for_chunks(d, 12, [&](int64_t, int64_t start, int64_t stop, int64_t) {
    const float* __restrict x = floats(params, 0);
    const float* __restrict dy = floats(params, 1);
    float* __restrict dx = floats(params, 2);
#pragma omp simd
    for (int64_t i = start * d.width; i < stop * d.width; ++i) {
      const float s = sigmoid(x[i]);
      dx[i] = dy[i] * (s + x[i] * s * (1.0f - s));
    }
  });
  return 0;
}

// x (..., D), bias (D) -> x + bias
LATTE_KERNEL(LatteAddBias) {
  const Rows d = Rows::flat(shapes[0], ndims[0]);
  const float* __restrict bias = floats(params, 1);
  for_chunks(d, 1, [&](int64_t, int64_t start, int64_t stop, int64_t) {
    for (int64_t i = start; i < stop; ++i) {
      const float* __restrict x = floats(params, 0) + i * d.width;
      float* __restrict y = floats(params, 2) + i * d.width;
#pragma omp simd
      for (int64_t j = 0; j < d.width; ++j) y[j] = x[j] + bias[j];
    }
  });
  return 0;
}

// dy (..., D), bias (D) -> dbias (D)
LATTE_KERNEL(LatteColumnSum) {
  const Rows d = Rows::flat(shapes[0], ndims[0]);
  std::vector<float> partial(d.batch * d.chunks * d.width);
  for_chunks(d, 1, [&](int64_t, int64_t start, int64_t stop, int64_t chunk) {
    sum_rows(floats(params, 0) + start * d.width, stop - start, d.width, d.width, partial.data() + chunk * d.width);
  });
  sum_rows(partial.data(), d.batch * d.chunks, d.width, d.width, floats(params, 2));
  return 0;
}

extern "C" void latte_set_threads(int threads) { Pool::instance().set_threads(threads); }
extern "C" int latte_threads() { return Pool::instance().threads(); }
