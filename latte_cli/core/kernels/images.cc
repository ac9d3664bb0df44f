// Group normalisation (Wu & He 2018) followed by SiLU, and nearest-neighbour upsampling, over float32 images (N, C, H, W), each
// one pass with its gradient.
#include <cmath>
#include <vector>

#include "maths.h"
#include "operator.h"
#include "parallel.h"

namespace latte {
namespace {

// A group of channels of one image is contiguous in memory.
struct Groups {
  int64_t batch, channels, pixels, groups;
  float eps;
  bool silu;
  // facts: groups, eps, whether SiLU follows
  Groups(const int64_t* shape, const float* facts)
      : batch(shape[0]), channels(shape[1]), pixels(shape[2] * shape[3]), groups(static_cast<int64_t>(facts[0])), eps(facts[1]),
        silu(facts[2] != 0.0f) {}
  int64_t width() const { return channels / groups; }
  int64_t size() const { return width() * pixels; }
  int64_t total() const { return batch * channels * pixels; }
};

struct Moments {
  float mean, rstd;
};

// Sums of parts in float, of all parts in double: a group may have a million numbers.
template <class Term>
double sum_of(int64_t count, const Term& term) {
  constexpr int64_t kStretch = 4096;
  double total = 0.0;
  for (int64_t start = 0; start < count; start += kStretch) {
    const int64_t stop = start + kStretch < count ? start + kStretch : count;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < stop; ++i) sum += term(i);
    total += sum;
  }
  return total;
}

Moments moments(const float* x, int64_t count, float eps) {
  const auto mean = static_cast<float>(sum_of(count, [&](int64_t i) { return x[i]; }) / static_cast<double>(count));
  const double squares = sum_of(count, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  return {mean, static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(count) + eps))};
}

void group_norm(const Groups& d, const float* x, const float* scale, const float* shift, float* out) {
  parallel_for(d.batch * d.groups, 4 * d.total(), [&](int64_t group) {
    const float* from = x + group * d.size();
    const Moments m = moments(from, d.size(), d.eps);
    for (int64_t c = 0; c < d.width(); ++c) {
      const int64_t channel = group % d.groups * d.width() + c;
      const float factor = m.rstd * scale[channel], rest = shift[channel] - m.mean * factor;
      const float* source = from + c * d.pixels;
      float* to = out + group * d.size() + c * d.pixels;
      if (d.silu) {
        for (int64_t i = 0; i < d.pixels; ++i) {
          const float y = source[i] * factor + rest;
          to[i] = y * sigmoid(y);
        }
      } else {
        for (int64_t i = 0; i < d.pixels; ++i) to[i] = source[i] * factor + rest;
      }
    }
  });
}

// dx temporarily contains the gradient of the normalised, scaled and shifted numbers.
void group_norm_gradient(const Groups& d, const float* x, const float* scale, const float* shift, const float* dout, float* dx,
                         float* dscale, float* dshift) {
  std::vector<float> scales(d.batch * d.channels), shifts(d.batch * d.channels);
  parallel_for(d.batch * d.groups, 12 * d.total(), [&](int64_t group) {
    const Moments m = moments(x + group * d.size(), d.size(), d.eps);
    double mean_gradient = 0.0, mean_product = 0.0;
    for (int64_t c = 0; c < d.width(); ++c) {
      const int64_t place = group * d.width() + c, channel = place % d.channels;
      const float* source = x + place * d.pixels;
      const float* given = dout + place * d.pixels;
      float* to = dx + place * d.pixels;
      const float factor = m.rstd * scale[channel], rest = shift[channel] - m.mean * factor;
      for (int64_t i = 0; i < d.pixels; ++i) {
        const float y = source[i] * factor + rest, s = sigmoid(y);
        to[i] = d.silu ? given[i] * (s + y * s * (1.0f - s)) : given[i];
      }
      const double gradient = sum_of(d.pixels, [&](int64_t i) { return to[i]; });
      const double product = sum_of(d.pixels, [&](int64_t i) { return to[i] * ((source[i] - m.mean) * m.rstd); });
      shifts[place] = static_cast<float>(gradient);
      scales[place] = static_cast<float>(product);
      mean_gradient += gradient * scale[channel] / static_cast<double>(d.size());
      mean_product += product * scale[channel] / static_cast<double>(d.size());
    }
    const auto constant = static_cast<float>(mean_gradient), slope = static_cast<float>(mean_product);
    for (int64_t c = 0; c < d.width(); ++c) {
      const int64_t place = group * d.width() + c;
      const float factor = scale[place % d.channels];
      const float* source = x + place * d.pixels;
      float* to = dx + place * d.pixels;
      for (int64_t i = 0; i < d.pixels; ++i) {
        to[i] = m.rstd * (factor * to[i] - constant - (source[i] - m.mean) * m.rstd * slope);
      }
    }
  });
  for (int64_t channel = 0; channel < d.channels; ++channel) {
    dscale[channel] = dshift[channel] = 0.0f;
    for (int64_t image = 0; image < d.batch; ++image) {
      dscale[channel] += scales[image * d.channels + channel];
      dshift[channel] += shifts[image * d.channels + channel];
    }
  }
}

// Calls body(row of the small image, over all images and channels, its two rows in the large one).
template <class Body>
void for_rows(const int64_t* small, const Body& body) {
  const int64_t rows = small[0] * small[1] * small[2], width = small[3];
  constexpr int64_t kRows = 64;
  parallel_for((rows + kRows - 1) / kRows, 4 * rows * width, [&](int64_t task) {
    for (int64_t row = task * kRows; row < rows && row < (task + 1) * kRows; ++row) body(row * width, row * width * 4, width);
  });
}

}  // namespace
}  // namespace latte

// x, scale (C), shift (C), facts (3) -> normalised x
LATTE_KERNEL(LatteGroupNorm) {
  using namespace latte;
  group_norm(Groups(shapes[0], floats(params, 3)), floats(params, 0), floats(params, 1), floats(params, 2), floats(params, 4));
  return 0;
}

// x, scale, shift, facts, dout -> dx, dscale, dshift
LATTE_KERNEL(LatteGroupNormGrad) {
  using namespace latte;
  group_norm_gradient(Groups(shapes[0], floats(params, 3)), floats(params, 0), floats(params, 1), floats(params, 2),
                      floats(params, 4), floats(params, 5), floats(params, 6), floats(params, 7));
  return 0;
}

// x (N, C, H, W) -> (N, C, 2H, 2W), nearest neighbour
LATTE_KERNEL(LatteDouble) {
  using namespace latte;
  const float* x = floats(params, 0);
  float* out = floats(params, 1);
  for_rows(shapes[0], [&](int64_t from, int64_t to, int64_t width) {
    for (int64_t half = 0; half < 2; ++half) {
      float* row = out + to + half * 2 * width;
      for (int64_t i = 0; i < width; ++i) row[2 * i] = row[2 * i + 1] = x[from + i];
    }
  });
  return 0;
}

// dout (N, C, 2H, 2W) -> (N, C, H, W), the sums of four
LATTE_KERNEL(LatteDoubleGrad) {
  using namespace latte;
  const float* dout = floats(params, 0);
  float* dx = floats(params, 1);
  for_rows(shapes[1], [&](int64_t to, int64_t from, int64_t width) {
    const float* row = dout + from;
    for (int64_t i = 0; i < width; ++i) {
      dx[to + i] = (row[2 * i] + row[2 * i + 1]) + (row[2 * width + 2 * i] + row[2 * width + 2 * i + 1]);
    }
  });
  return 0;
}
