// Optimizer operations, each one pass over all tensors of a model. Called through ctypes.
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"

namespace latte {
namespace {

constexpr int64_t kChunk = 16384;

struct Piece {
  int64_t tensor, start, stop;
};

std::vector<Piece> pieces(int64_t tensors, const int64_t* sizes) {
  std::vector<Piece> cut;
  for (int64_t i = 0; i < tensors; ++i) {
    for (int64_t start = 0; start < sizes[i]; start += kChunk) {
      cut.push_back({i, start, start + kChunk < sizes[i] ? start + kChunk : sizes[i]});
    }
  }
  return cut;
}

template <class Body>
void for_pieces(const std::vector<Piece>& cut, const Body& body) {
  const int64_t count = static_cast<int64_t>(cut.size());
  parallel_for(count, count * kChunk, [&](int64_t i) { body(cut[i], i); });
}

}  // namespace
}  // namespace latte

using namespace latte;

// The constants of a step's update; mirrored in optimizer.py.
struct Update {
  float factor;                 // of the gradient
  float fresh1, keep2, fresh2;  // 1 - beta1, beta2, 1 - beta2, each rounded from double: 1 - 0.999f has an error of 5e-5
  float rate;                   // learning rate / (1 - beta1^t)
  float root;                   // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float keep_average, fresh_average;  // decay of the averaged weights, 1 - decay
};

// AdamW as in torch.optim.AdamW (Loshchilov and Hutter 2019), then the averages, all in place.
// shrink[i] = 1 - learning rate * weight decay of tensor i; averages may be null.
extern "C" void latte_adamw_ema(int64_t tensors, const int64_t* sizes, const float* const* gradients, float* const* parameters,
                                float* const* means, float* const* squares, float* const* averages, const float* shrink,
                                const Update* update) {
  const Update u = *update;
  for_pieces(pieces(tensors, sizes), [&](const Piece& piece, int64_t) {
    const float* __restrict gradient = gradients[piece.tensor];
    float* __restrict parameter = parameters[piece.tensor];
    float* __restrict mean = means[piece.tensor];
    float* __restrict square = squares[piece.tensor];
    const float keep = shrink[piece.tensor];
#pragma omp simd
    for (int64_t i = piece.start; i < piece.stop; ++i) {
      const float g = gradient[i] * u.factor;
      mean[i] += (g - mean[i]) * u.fresh1;
      square[i] = square[i] * u.keep2 + g * g * u.fresh2;
      parameter[i] = parameter[i] * keep - u.rate * mean[i] / (std::sqrt(square[i]) * u.root + u.epsilon);
    }
    if (averages == nullptr) return;
    float* __restrict average = averages[piece.tensor];
#pragma omp simd
    for (int64_t i = piece.start; i < piece.stop; ++i) {
      average[i] = average[i] * u.keep_average + parameter[i] * u.fresh_average;
    }
  });
}

// The sum of the squares of all numbers, in double.
extern "C" double latte_sum_squares(int64_t tensors, const int64_t* sizes, const float* const* values) {
  const std::vector<Piece> cut = pieces(tensors, sizes);
  std::vector<double> partial(cut.size());
  for_pieces(cut, [&](const Piece& piece, int64_t place) {
    const float* __restrict value = values[piece.tensor];
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = piece.start; i < piece.stop; ++i) sum += static_cast<double>(value[i]) * value[i];
    partial[place] = sum;
  });
  double sum = 0.0;
  for (const double part : partial) sum += part;
  return sum;
}

// sums += values, in place.
extern "C" void latte_accumulate(int64_t tensors, const int64_t* sizes, float* const* sums, const float* const* values) {
  for_pieces(pieces(tensors, sizes), [&](const Piece& piece, int64_t) {
    float* __restrict sum = sums[piece.tensor];
    const float* __restrict value = values[piece.tensor];
#pragma omp simd
    for (int64_t i = piece.start; i < piece.stop; ++i) sum[i] += value[i];
  });
}
