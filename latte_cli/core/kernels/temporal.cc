// The temporal half of a video decoder's block over the frames of one clip, (C, H, W) each: normalisation over all frames and
// SiLU, then a convolution of each pixel over the previous, current and next frame, both twice; a share of the result is added.
//
// A tile is the same few pixels of every frame. The values between the two convolutions are computed twice, first for their mean
// and variance, so that only the frames themselves are stored for the complete clip. Frames need not be contiguous in memory.
#include <algorithm>
#include <cmath>
#include <vector>

#include "maths.h"
#include "matrix.h"
#include "parallel.h"

namespace latte {
namespace {

constexpr int64_t kTileFloats = int64_t{1} << 18;  // of one of a tile's two buffers, which fit the L2 cache
constexpr int64_t kLeastPixels = 16, kMostPixels = 128;
constexpr int64_t kDepth = 128;  // in channels per product

struct Clip {
  float* const* images;
  int64_t frames, channels, pixels, groups;
  double eps;
  float* channel(int64_t frame, int64_t c) const { return images[frame] + c * pixels; }
  int64_t width() const { return channels / groups; }
  int64_t at_once() const {
    const int64_t fitting = kTileFloats / (channels * (frames + 2)) / kLeastPixels * kLeastPixels;
    return std::clamp(fitting, kLeastPixels, kMostPixels);
  }
  int64_t tiles() const { return (pixels + at_once() - 1) / at_once(); }
  int64_t row() const { return padded((frames + 2) * at_once()); }  // a channel's line: a frame of zeros at either end
  int64_t cost() const { return frames * channels * channels * pixels; }
};

// Normalised x is x * factor + rest, for each channel.
struct Affine {
  std::vector<float> factor, rest;
};

Affine affine(const Clip& d, const std::vector<double>& sums, const std::vector<double>& squares, const float* scale,
              const float* shift) {
  Affine found{std::vector<float>(d.channels), std::vector<float>(d.channels)};
  const double count = static_cast<double>(d.frames * d.width() * d.pixels);
  for (int64_t c = 0; c < d.channels; ++c) {
    const double mean = sums[c / d.width()] / count, variance = std::max(0.0, squares[c / d.width()] / count - mean * mean);
    const double factor = scale[c] / std::sqrt(variance + d.eps);
    found.factor[c] = static_cast<float>(factor);
    found.rest[c] = static_cast<float>(shift[c] - mean * factor);
  }
  return found;
}

// Adds the sum and sum of squares of a range, a few numbers at a time in float.
void add_sums(const float* from, int64_t count, double& sum, double& square) {
  constexpr int64_t kStretch = 512;
  for (int64_t start = 0; start < count; start += kStretch) {
    const int64_t stop = std::min(count, start + kStretch);
    float part = 0.0f, squared = 0.0f;
#pragma omp simd reduction(+ : part, squared)
    for (int64_t i = start; i < stop; ++i) {
      part += from[i];
      squared += from[i] * from[i];
    }
    sum += part;
    square += squared;
  }
}

Affine input_affine(const Clip& d, const float* scale, const float* shift) {
  std::vector<double> sums(d.groups, 0.0), squares(d.groups, 0.0);
  parallel_for(d.groups, 4 * d.frames * d.channels * d.pixels, [&](int64_t group) {
    for (int64_t frame = 0; frame < d.frames; ++frame) {
      add_sums(d.channel(frame, group * d.width()), d.width() * d.pixels, sums[group], squares[group]);
    }
  });
  return affine(d, sums, squares, scale, shift);
}

// A filter (outs, ins, 3) as [tap][in][out], so that rows of a tile are contiguous.
std::vector<float> packed(const float* filter, int64_t channels) {
  std::vector<float> to(3 * channels * channels);
  for (int64_t o = 0; o < channels; ++o) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t tap = 0; tap < 3; ++tap) to[(tap * channels + c) * channels + o] = filter[(o * channels + c) * 3 + tap];
    }
  }
  return to;
}

// to [channel][frame] = each frame of `from` with its neighbours; both have lines of d.row() floats, `from` with zeros at the ends.
void convolve(const Clip& d, const std::vector<float>& filter, const float* from, float* to) {
  const int64_t at_once = d.at_once(), row = d.row(), ins = d.channels;
  for (int64_t tap = 0; tap < 3; ++tap) {
    for (int64_t begin = 0; begin < ins; begin += kDepth) {
      const float* weights = filter.data() + (tap * ins + begin) * ins;
      multiply(ins, d.frames * at_once, std::min(kDepth, ins - begin), Strided{weights, 1, ins},
               from + begin * row + tap * at_once, row, to + at_once, row, tap + begin > 0);
    }
  }
}

struct Tile {
  std::vector<float> first, second;
};

// Writes the values between the convolutions, without bias, to `second`.
void between(const Clip& d, int64_t start, const Affine& norm, const std::vector<float>& filter, Tile& tile) {
  const int64_t at_once = d.at_once(), row = d.row(), now = std::min(at_once, d.pixels - start);
  for (int64_t c = 0; c < d.channels; ++c) {
    float* line = tile.first.data() + c * row;
    std::fill(line, line + at_once, 0.0f);
    std::fill(line + (d.frames + 1) * at_once, line + row, 0.0f);
    const float factor = norm.factor[c], rest = norm.rest[c];
    for (int64_t frame = 0; frame < d.frames; ++frame) {
      const float* source = d.channel(frame, c) + start;
      float* to = line + (frame + 1) * at_once;
      for (int64_t i = 0; i < now; ++i) {
        const float y = source[i] * factor + rest;
        to[i] = y * sigmoid(y);
      }
      std::fill(to + now, to + at_once, 0.0f);
    }
  }
  convolve(d, filter, tile.first.data(), tile.second.data());
}

Tile& tile_of(const Clip& d) {
  thread_local Tile kept;
  kept.first.resize(d.channels * d.row());
  kept.second.resize(d.channels * d.row());
  return kept;
}

struct Half {
  const float *scale, *shift, *filter, *bias;
};

void temporal_block(const Clip& d, const Half& one, const Half& two, float share) {
  const Affine norm = input_affine(d, one.scale, one.shift);
  const std::vector<float> filter = packed(one.filter, d.channels), last = packed(two.filter, d.channels);
  const int64_t at_once = d.at_once(), row = d.row();
  std::vector<double> partial(2 * d.tiles() * d.groups, 0.0);
  parallel_for(d.tiles(), 3 * d.cost(), [&](int64_t number) {
    const int64_t start = number * at_once, now = std::min(at_once, d.pixels - start);
    Tile& tile = tile_of(d);
    between(d, start, norm, filter, tile);
    for (int64_t c = 0; c < d.channels; ++c) {
      double* sums = partial.data() + 2 * (number * d.groups + c / d.width());
      for (int64_t frame = 0; frame < d.frames; ++frame) {
        float* line = tile.second.data() + c * row + (frame + 1) * at_once;
        for (int64_t i = 0; i < now; ++i) line[i] += one.bias[c];
        add_sums(line, now, sums[0], sums[1]);
      }
    }
  });
  std::vector<double> sums(d.groups, 0.0), squares(d.groups, 0.0);
  for (int64_t number = 0; number < d.tiles(); ++number) {
    for (int64_t group = 0; group < d.groups; ++group) {
      sums[group] += partial[2 * (number * d.groups + group)];
      squares[group] += partial[2 * (number * d.groups + group) + 1];
    }
  }
  const Affine inner = affine(d, sums, squares, two.scale, two.shift);
  parallel_for(d.tiles(), 6 * d.cost(), [&](int64_t number) {
    const int64_t start = number * at_once, now = std::min(at_once, d.pixels - start);
    Tile& tile = tile_of(d);
    between(d, start, norm, filter, tile);
    for (int64_t c = 0; c < d.channels; ++c) {
      float* line = tile.second.data() + c * row;
      const float factor = inner.factor[c], rest = inner.rest[c] + one.bias[c] * factor;
      for (int64_t i = at_once; i < (d.frames + 1) * at_once; ++i) {
        const float y = line[i] * factor + rest;
        line[i] = y * sigmoid(y);
      }
      std::fill(line, line + at_once, 0.0f);
      std::fill(line + (d.frames + 1) * at_once, line + row, 0.0f);
    }
    convolve(d, last, tile.second.data(), tile.first.data());
    for (int64_t frame = 0; frame < d.frames; ++frame) {
      for (int64_t c = 0; c < d.channels; ++c) {
        float* to = d.channel(frame, c) + start;
        const float* change = tile.first.data() + c * row + (frame + 1) * at_once;
        for (int64_t i = 0; i < now; ++i) to[i] += share * (change[i] + two.bias[c]);
      }
    }
  });
}

}  // namespace
}  // namespace latte

// Changes `frames` images in place. weights: scale (C), shift (C), filter (C, C, 3) and bias (C) of either half.
extern "C" void latte_temporal_block(float* const* images, const float* const* weights, int64_t frames, int64_t channels,
                                     int64_t pixels, int64_t groups, float eps, float share) {
  using namespace latte;
  const Half one{weights[0], weights[1], weights[2], weights[3]}, two{weights[4], weights[5], weights[6], weights[7]};
  temporal_block(Clip{images, frames, channels, pixels, groups, eps}, one, two, share);
}
