// Multi-head self-attention over the tokens of a frame or the frames of a token, read by stride from (B, F * T, 3 * D).
//
// A unit of work is one head of one sequence, computed in thread-local buffers. The gradient recomputes the probabilities
// by blocks of queries, so that only the input is stored for it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "maths.h"
#include "matrix.h"
#include "operator.h"
#include "parallel.h"

namespace latte {
namespace {

constexpr int64_t kQueries = 48;     // queries per block
constexpr int64_t kTextQueries = 480;  // the same a task, of those that attend to a text
constexpr int64_t kLongLength = 64;  // from this length a task is one head; otherwise all heads of some sequences
constexpr int64_t kGroups = 32;      // tasks per clip for short sequences

// The layout of one call. Sequences are frames ("space") or tokens ("time") of a clip.
struct Layout {
  int64_t clips, number, width, heads, head_dim, sequences, length, sequence_stride, position_stride;

  Layout(const int64_t* shape, const int64_t* facts)
      : clips(shape[0]), number(shape[1]), width(shape[2] / 3), heads(facts[0]), head_dim(width / heads) {
    const int64_t frames = facts[1], tokens = number / frames;
    const bool time = facts[2] != 0;
    sequences = time ? tokens : frames;
    length = time ? frames : tokens;
    sequence_stride = time ? 1 : tokens;
    position_stride = time ? tokens : 1;
  }

  int64_t group() const { return length >= kLongLength ? 1 : (sequences + kGroups - 1) / kGroups; }
  int64_t groups() const { return (sequences + group() - 1) / group(); }
  int64_t row(int64_t clip, int64_t sequence) const { return clip * number + sequence * sequence_stride; }
  int64_t stride(int64_t channels) const { return position_stride * channels; }
};

// Prefetches the rows of a sequence, which are too far apart for the hardware prefetcher.
void prefetch(const Layout& at, const float* rows, int64_t clip, int64_t sequence, int64_t channels) {
  const float* from = rows + at.row(clip, sequence) * channels;
  for (int64_t i = 0; i < at.length; ++i, from += at.stride(channels)) {
    for (int64_t j = 0; j < channels; j += 16) __builtin_prefetch(from + j, 0, 2);
  }
}

// Calls body(clip, group, sequence, head) for all; the calls of a group are in order for each head.
template <class Body>
void for_units(const Layout& at, const float* qkv, int64_t passes, const Body& body) {
  const bool by_head = at.length >= kLongLength;
  const int64_t splits = by_head ? at.heads : 1, per_split = by_head ? 1 : at.heads;
  const int64_t cost = passes * at.clips * at.number * at.width;
  parallel_for(at.clips * at.groups() * splits, cost, [&](int64_t task) {
    const int64_t split = task % splits, clip = task / splits / at.groups(), group = task / splits % at.groups();
    const int64_t first = group * at.group();
    const int64_t last = first + at.group() < at.sequences ? first + at.group() : at.sequences;
    if (!by_head) prefetch(at, qkv, clip, first, 3 * at.width);
    for (int64_t sequence = first; sequence < last; ++sequence) {
      if (!by_head && sequence + 1 < last) prefetch(at, qkv, clip, sequence + 1, 3 * at.width);
      for (int64_t head = split * per_split; head < (split + 1) * per_split; ++head) body(clip, group, sequence, head);
    }
  });
}

// A thread's working memory, allocated in pieces.
class Scratch {
 public:
  explicit Scratch(int64_t floats) {
    static thread_local std::unique_ptr<float, decltype(&std::free)> memory(nullptr, &std::free);
    static thread_local int64_t size = 0;
    if (floats > size) {
      memory.reset(static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
      size = memory ? floats : 0;
    }
    next_ = memory.get();
  }
  bool failed() const { return next_ == nullptr; }
  float* take(int64_t floats) {
    float* piece = next_;
    next_ += floats;
    return piece;
  }

 private:
  float* next_;
};

// to (length x head_dim, rows padded) = (from + bias) * factor, zeros in the padding. No bias: a null pointer.
void load(const float* __restrict from, int64_t stride, const float* __restrict bias, float factor, int64_t length,
          int64_t head_dim, float* __restrict to) {
  const int64_t row = padded(head_dim);
  for (int64_t i = 0; i < length; ++i, to += row, from += stride) {
    if (bias != nullptr) {
      for (int64_t d = 0; d < head_dim; ++d) to[d] = (from[d] + bias[d]) * factor;
    } else {
      for (int64_t d = 0; d < head_dim; ++d) to[d] = from[d] * factor;
    }
    for (int64_t d = head_dim; d < row; ++d) to[d] = 0.0f;
  }
}

// to (head_dim x length, rows padded) = the transpose of the result of `load`.
void transpose(const float* __restrict from, int64_t length, int64_t head_dim, float* __restrict to) {
  const int64_t from_row = padded(head_dim), to_row = padded(length);
  for (int64_t d = 0; d < head_dim; ++d) {
    for (int64_t i = 0; i < length; ++i) to[d * to_row + i] = from[i * from_row + d];
    for (int64_t i = length; i < to_row; ++i) to[d * to_row + i] = 0.0f;
  }
}

// Replaces a row of scores with exp(score - max); returns their sum.
float exponentials(float* __restrict scores, int64_t length) {
  float top = scores[0], sum = 0.0f;
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < length; ++j) top = scores[j] > top ? scores[j] : top;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < length; ++j) {
    scores[j] = exp_fast(scores[j] - top);
    sum += scores[j];
  }
  return sum;
}

// One head of some queries and of all keys. Rows of queries are `stride` apart, those of keys and values `key_stride`. Biases, and
// what is added to the scores of each key, may be null pointers.
struct Head {
  const float *queries, *keys, *values, *query_bias, *key_bias, *value_bias, *score_bias;
  int64_t number, length, dim, stride, key_stride;
};

void forward_head(const Head& head, float* out, int64_t out_stride) {
  const int64_t dim_row = padded(head.dim), key_row = padded(head.length), most = std::max(head.number, head.length);
  Scratch scratch(most * dim_row + head.dim * key_row + head.length * dim_row + kQueries * (key_row + dim_row));
  float* rows = scratch.take(most * dim_row);
  float* keys = scratch.take(head.dim * key_row);
  float* values = scratch.take(head.length * dim_row);
  float* scores = scratch.take(kQueries * key_row);
  float* mixed = scratch.take(kQueries * dim_row);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head.dim));
  load(head.keys, head.key_stride, head.key_bias, 1.0f, head.length, head.dim, rows);
  transpose(rows, head.length, head.dim, keys);
  load(head.values, head.key_stride, head.value_bias, 1.0f, head.length, head.dim, values);
  load(head.queries, head.stride, head.query_bias, scale, head.number, head.dim, rows);
  for (int64_t start = 0; start < head.number; start += kQueries) {
    const int64_t queries = std::min(kQueries, head.number - start);
    multiply(queries, head.length, head.dim, {rows + start * dim_row, dim_row, 1}, keys, key_row, scores, key_row, false);
    float sums[kQueries];
    for (int64_t i = 0; i < queries; ++i) {
      float* __restrict row = scores + i * key_row;
      for (int64_t j = 0; head.score_bias != nullptr && j < head.length; ++j) row[j] += head.score_bias[j];
      sums[i] = exponentials(row, head.length);
    }
    multiply(queries, head.dim, head.length, {scores, key_row, 1}, values, dim_row, mixed, dim_row, false);
    for (int64_t i = 0; i < queries; ++i) {
      const float share = 1.0f / sums[i];
      float* __restrict to = out + (start + i) * out_stride;
      const float* __restrict from = mixed + i * dim_row;
      for (int64_t d = 0; d < head.dim; ++d) to[d] = from[d] * share;
    }
  }
}

// Writes (length x head_dim) times `factor` to a part of dqkv, and adds its column sums to `sums`.
void store(const float* __restrict from, int64_t length, int64_t head_dim, float factor, float* __restrict to, int64_t stride,
           float* __restrict sums) {
  const int64_t row = padded(head_dim);
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t d = 0; d < head_dim; ++d) {
      const float value = from[i * row + d] * factor;
      to[i * stride + d] = value;
      sums[d] += value;
    }
  }
}

// From one row's exponentials and dP (the gradient of the probabilities): the probabilities P, and P (dP - sum P dP) in dP.
void softmax_grad(float* __restrict p, float* __restrict dp, float share, int64_t length) {
  float along = 0.0f;
#pragma omp simd reduction(+ : along)
  for (int64_t j = 0; j < length; ++j) {
    p[j] *= share;
    along += p[j] * dp[j];
  }
#pragma omp simd
  for (int64_t j = 0; j < length; ++j) dp[j] = p[j] * (dp[j] - along);
}

void backward_unit(const Layout& at, const float* qkv, const float* bias, const float* dout, float* dqkv, float* dbias) {
  const int64_t length = at.length, dim = at.head_dim, width = at.width, stride = at.stride(3 * width);
  const int64_t dim_row = padded(dim), key_row = padded(length);
  Scratch scratch(6 * length * dim_row + 2 * dim * key_row + kQueries * (2 * key_row + dim_row));
  float* q = scratch.take(length * dim_row);
  float* k = scratch.take(length * dim_row);
  float* v = scratch.take(length * dim_row);
  float* d_out = scratch.take(length * dim_row);
  float* dk = scratch.take(length * dim_row);
  float* dv = scratch.take(length * dim_row);
  float* k_across = scratch.take(dim * key_row);
  float* v_across = scratch.take(dim * key_row);
  float* p = scratch.take(kQueries * key_row);
  float* dp = scratch.take(kQueries * key_row);
  float* dq = scratch.take(kQueries * dim_row);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  load(qkv, stride, bias, scale, length, dim, q);
  load(qkv + width, stride, bias + width, 1.0f, length, dim, k);
  load(qkv + 2 * width, stride, bias + 2 * width, 1.0f, length, dim, v);
  load(dout, at.stride(width), nullptr, 1.0f, length, dim, d_out);
  transpose(k, length, dim, k_across);
  transpose(v, length, dim, v_across);
  for (int64_t start = 0; start < length; start += kQueries) {
    const int64_t queries = length - start < kQueries ? length - start : kQueries;
    const float* q_block = q + start * dim_row;
    const float* d_block = d_out + start * dim_row;
    multiply(queries, length, dim, {q_block, dim_row, 1}, k_across, key_row, p, key_row, false);
    multiply(queries, length, dim, {d_block, dim_row, 1}, v_across, key_row, dp, key_row, false);
    for (int64_t i = 0; i < queries; ++i) {
      const float share = 1.0f / exponentials(p + i * key_row, length);
      softmax_grad(p + i * key_row, dp + i * key_row, share, length);
    }
    multiply(length, dim, queries, {p, 1, key_row}, d_block, dim_row, dv, dim_row, start > 0);
    multiply(length, dim, queries, {dp, 1, key_row}, q_block, dim_row, dk, dim_row, start > 0);
    multiply(queries, dim, length, {dp, key_row, 1}, k, dim_row, dq, dim_row, false);
    store(dq, queries, dim, scale, dqkv + start * stride, stride, dbias);
  }
  store(dk, length, dim, 1.0f, dqkv + width, stride, dbias + width);
  store(dv, length, dim, 1.0f, dqkv + 2 * width, stride, dbias + 2 * width);
}

}  // namespace
}  // namespace latte

using namespace latte;

// qkv (B, N, 3D), bias (3D), facts (3) int64: heads, frames, 1 for "time" -> out (B, N, D)
LATTE_KERNEL(LatteAttention) {
  const Layout at(shapes[0], static_cast<const int64_t*>(params[2]));
  for_units(at, floats(params, 0), 4 * at.length, [&](int64_t clip, int64_t, int64_t sequence, int64_t head) {
    const int64_t row = at.row(clip, sequence), channel = head * at.head_dim;
    const float *qkv = floats(params, 0) + row * 3 * at.width + channel, *bias = floats(params, 1) + channel;
    const int64_t width = at.width, stride = at.stride(3 * width);
    const Head one{qkv,     qkv + width, qkv + 2 * width, bias,   bias + width, bias + 2 * width, nullptr, at.length,
                   at.length, at.head_dim, stride,          stride};
    forward_head(one, floats(params, 3) + row * width + channel, at.stride(width));
  });
  return 0;
}

// queries (B, M, D), keys and values (B, N, D), added to scores (B, N), facts (1) int64: heads -> out (B, M, D)
LATTE_KERNEL(LatteTextAttention) {
  const int64_t clips = shapes[0][0], number = shapes[0][1], width = shapes[0][2], length = shapes[1][1];
  const int64_t heads = *static_cast<const int64_t*>(params[4]), dim = width / heads;
  const int64_t chunks = (number + kTextQueries - 1) / kTextQueries;
  parallel_for(clips * heads * chunks, 4 * clips * number * length * width, [&](int64_t task) {
    const int64_t start = task % chunks * kTextQueries, channel = task / chunks % heads * dim, clip = task / chunks / heads;
    const int64_t from = (clip * number + start) * width + channel, text = clip * length * width + channel;
    const Head one{floats(params, 0) + from, floats(params, 1) + text, floats(params, 2) + text, nullptr, nullptr, nullptr,
                   floats(params, 3) + clip * length, std::min(kTextQueries, number - start), length, dim, width, width};
    forward_head(one, floats(params, 5) + from, width);
  });
  return 0;
}

// qkv, bias, facts, dout -> dqkv (B, N, 3D), dbias (3D)
LATTE_KERNEL(LatteAttentionGrad) {
  const Layout at(shapes[0], static_cast<const int64_t*>(params[2]));
  const int64_t channels = 3 * at.width;
  std::vector<float> partial(at.clips * at.groups() * channels, 0.0f);
  for_units(at, floats(params, 0), 10 * at.length, [&](int64_t clip, int64_t group, int64_t sequence, int64_t head) {
    const int64_t row = at.row(clip, sequence), channel = head * at.head_dim;
    backward_unit(at, floats(params, 0) + row * channels + channel, floats(params, 1) + channel,
                  floats(params, 3) + row * at.width + channel, floats(params, 4) + row * channels + channel,
                  partial.data() + (clip * at.groups() + group) * channels + channel);
  });
  float* __restrict dbias = floats(params, 5);
  for (int64_t j = 0; j < channels; ++j) dbias[j] = 0.0f;
  for (int64_t i = 0; i < at.clips * at.groups(); ++i) {
    for (int64_t j = 0; j < channels; ++j) dbias[j] += partial[i * channels + j];
  }
  return 0;
}
