// 2-D convolution over float32 images with its gradient, as sums of matrix products without unfolded copies of the input.
//
// A block of input rows is packed into one line per channel, with zeros at the borders. Each tap of the filter reads this line at
// an offset, so that (out channels x in channels) times (in channels x pixels) is a plain product. The pixels past the end of a
// row are garbage and are discarded. With a stride, every phase of rows and columns is a separate line.
#include <algorithm>
#include <vector>

#include "matrix.h"
#include "operator.h"
#include "parallel.h"
#include "winograd.h"

namespace latte {
namespace {

constexpr int64_t kPixels = 256;  // of an output block: its packed input fits the L2 cache
constexpr int64_t kPanelWidth = kPanel * kLanes;  // pixels of a tile
constexpr int64_t kDepth = 128;   // in channels per product: kPanelWidth pixels of each fit the L1 cache
constexpr int64_t kGroups = 8;    // partial sums of the filter's gradient: the same for any number of threads

struct Size {
  int64_t channels, height, width;
  explicit Size(const int64_t* shape) : channels(shape[1]), height(shape[2]), width(shape[3]) {}
  int64_t pixels() const { return height * width; }
  int64_t total() const { return channels * pixels(); }
};

// Geometry: `stretch` - 1 zeros between input pixels, `pad` zeros around.
struct Geometry {
  Size in, out;
  int64_t kernel_height, kernel_width, stride, stretch, pad_y, pad_x;

  int64_t taps() const { return kernel_height * kernel_width; }
  int64_t line_width() const { return out.width + (kernel_width - 1) / stride; }
  int64_t block_rows() const { return std::clamp(kPixels / line_width(), int64_t{1}, out.height); }
  int64_t blocks() const { return (out.height + block_rows() - 1) / block_rows(); }
  int64_t plane() const { return (block_rows() + (kernel_height - 1) / stride) * line_width(); }
  int64_t line() const { return plane() * stride * stride; }
  int64_t offset(int64_t tap) const {
    const int64_t y = tap / kernel_width, x = tap % kernel_width;
    return (y % stride * stride + x % stride) * plane() + y / stride * line_width() + x / stride;
  }
};

// An input of the output's size is padded by half the filter (odd, stride 1); a smaller one has stride 2 and no padding.
Geometry forward_geometry(const int64_t* in, const int64_t* filter, const int64_t* out) {
  const bool same = in[2] == out[2] && in[3] == out[3];
  return {Size(in), Size(out), filter[2], filter[3], same ? 1 : 2, 1, same ? filter[2] / 2 : 0, same ? filter[3] / 2 : 0};
}

// The input's gradient is a convolution of the output's, stretched by the stride, with the mirrored filter.
Geometry backward_geometry(const Geometry& g) {
  return {g.out, g.in, g.kernel_height, g.kernel_width, 1, g.stride, g.kernel_height - 1 - g.pad_y, g.kernel_width - 1 - g.pad_x};
}

// Calls body(line position, source pixel or -1) for every position in the lines of an output block that begins at row `first`.
template <class Body>
inline void for_places(const Geometry& g, int64_t first, const Body& body) {
  const int64_t width = g.line_width(), rows = g.plane() / width;
  int64_t position = 0;
  for (int64_t phase_y = 0; phase_y < g.stride; ++phase_y) {
    for (int64_t phase_x = 0; phase_x < g.stride; ++phase_x) {
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t y = (first + row) * g.stride + phase_y - g.pad_y;
        const bool inside = y >= 0 && y % g.stretch == 0 && y / g.stretch < g.in.height;
        const int64_t source = y / g.stretch * g.in.width;
        for (int64_t column = 0; column < width; ++column, ++position) {
          const int64_t x = column * g.stride + phase_x - g.pad_x;
          const bool found = inside && x >= 0 && x % g.stretch == 0 && x / g.stretch < g.in.width;
          body(position, found ? source + x / g.stretch : -1);
        }
      }
    }
  }
}

// The source pixel of every position, computed once per block instead of once per channel.
std::vector<int64_t> sources(const Geometry& g, int64_t first) {
  std::vector<int64_t> found(g.line());
  for_places(g, first, [&](int64_t position, int64_t source) { found[position] = source; });
  return found;
}

// One channel's lines for an output block that begins at row `first`; `from` is the result of `sources`.
void pack_lines(const Geometry& g, int64_t first, const std::vector<int64_t>& from, const float* source, float* to) {
  if (g.stride > 1 || g.stretch > 1) {
    for (int64_t i = 0; i < g.line(); ++i) to[i] = from[i] < 0 ? 0.0f : source[from[i]];
    return;
  }
  const int64_t width = g.line_width(), last = std::min(width, g.pad_x + g.in.width);
  for (int64_t y = first - g.pad_y; y < first - g.pad_y + g.plane() / width; ++y, to += width) {
    if (y < 0 || y >= g.in.height) {
      std::fill(to, to + width, 0.0f);
    } else {
      std::fill(to, to + g.pad_x, 0.0f);
      std::copy(source + y * g.in.width, source + y * g.in.width + last - g.pad_x, to + g.pad_x);
      std::fill(to + last, to + width, 0.0f);
    }
  }
}

// The filter in blocks of kTileRows outputs: [block][tap][in channel][output within the block].
std::vector<float> pack_filter(const Filter& filter, int64_t outs, int64_t ins, int64_t taps) {
  std::vector<float> packed(outs * ins * taps);
  parallel_for((outs + kTileRows - 1) / kTileRows, outs * ins * taps, [&](int64_t block) {
    const int64_t start = block * kTileRows, height = std::min<int64_t>(kTileRows, outs - start);
    float* to = packed.data() + start * ins * taps;
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t c = 0; c < ins; ++c) {
        const float* from = filter.data + (start + i) * filter.out_step + c * filter.in_step;
        for (int64_t tap = 0; tap < taps; ++tap) to[(tap * ins + c) * height + i] = from[tap * filter.tap_step];
      }
    }
  });
  return packed;
}

struct Scratch {
  std::vector<float> lines, sums;
};

Scratch& scratch() {
  thread_local Scratch kept;
  return kept;
}

// out (batch, outs, h, w) = convolution of x with the filter, plus bias unless it is null, tap by tap.
void convolve_taps(const Geometry& g, int64_t batch, const float* x, const Filter& unpacked, const float* bias, float* out) {
  const std::vector<float> filter = pack_filter(unpacked, g.out.channels, g.in.channels, g.taps());
  const int64_t rows = g.block_rows(), blocks = g.blocks(), taps = g.taps(), ins = g.in.channels;
  const int64_t channel_blocks = (g.out.channels + kTileRows - 1) / kTileRows;
  const int64_t shares = batch * blocks < 8 ? std::min<int64_t>(4, channel_blocks) : 1;  // small images: also by channels
  const int64_t cost = batch * g.out.total() * ins * taps;
  parallel_for(batch * blocks * shares, cost, [&](int64_t task) {
    const int64_t share = task % shares, first = task / shares % blocks * rows, image = task / shares / blocks;
    const int64_t line = padded(g.line()), width = g.line_width();
    const int64_t now = std::min(rows, g.out.height - first), sums_row = padded(rows * width);
    Scratch& s = scratch();
    s.lines.resize(std::max<size_t>(s.lines.size(), ins * line + 2 * kPanelWidth));
    const int64_t first_block = channel_blocks * share / shares, last_block = channel_blocks * (share + 1) / shares;
    s.sums.resize(std::max<size_t>(s.sums.size(), (last_block - first_block) * kTileRows * sums_row));
    // The last row's end is discarded anyway; the rest is cut into panels of about equal width, since narrow ones are slow.
    const int64_t pixels = now * width - (width - g.out.width), vectors = (pixels + kLanes - 1) / kLanes;
    const int64_t panels = (vectors + kPanel - 1) / kPanel;
    const bool packed = last_block - first_block > 2;  // for fewer, the copy costs more than it saves
    alignas(64) static thread_local float packed_panel[kDepth * kPanelWidth];
    const std::vector<int64_t> from = sources(g, first);
    for (int64_t c = 0; c < ins; ++c) {
      pack_lines(g, first, from, x + image * g.in.total() + c * g.in.pixels(), s.lines.data() + c * line);
    }
    const auto height_of = [&](int64_t block) { return std::min<int64_t>(kTileRows, g.out.channels - block * kTileRows); };
    const auto sums_of = [&](int64_t block) { return s.sums.data() + (block - first_block) * kTileRows * sums_row; };
    std::vector<int64_t> places(taps * ins);  // in the lines, by tap and in channel
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t c = 0; c < ins; ++c) places[tap * ins + c] = c * line + g.offset(tap);
    }
    // A product covers the in channels of one tap, or, if they are copied, of several taps.
    for (int64_t begin = 0, depth; begin < taps * ins; begin += depth) {
      depth = std::min(kDepth, packed ? taps * ins - begin : ins - begin % ins);
      for (int64_t panel = 0, pixel = 0, next; panel < panels; ++panel, pixel = next) {
        next = std::min(pixels, (vectors * (panel + 1) + panels - 1) / panels * kLanes);
        const float* source = s.lines.data() + places[begin] + pixel;
        for (int64_t k = 0; packed && k < depth; ++k) {
          const float* row = s.lines.data() + places[begin + k] + pixel;
          std::copy(row, row + kPanelWidth, packed_panel + k * kPanelWidth);
        }
        for (int64_t block = first_block; block < last_block; ++block) {
          const int64_t height = height_of(block);
          const float* weights = filter.data() + block * kTileRows * ins * taps + begin * height;
          multiply(height, next - pixel, depth, Strided{weights, 1, height},
                   packed ? packed_panel : source, packed ? kPanelWidth : line, sums_of(block) + pixel, sums_row, begin > 0);
        }
      }
    }
    for (int64_t block = first_block; block < last_block; ++block) {
      const int64_t start = block * kTileRows, height = height_of(block);
      for (int64_t i = 0; i < height; ++i) {
        const float extra = bias == nullptr ? 0.0f : bias[start + i];
        float* to = out + image * g.out.total() + (start + i) * g.out.pixels() + first * g.out.width;
        for (int64_t row = 0; row < now; ++row) {
          const float* sums = sums_of(block) + i * sums_row + row * width;
          for (int64_t column = 0; column < g.out.width; ++column) to[row * g.out.width + column] = sums[column] + extra;
        }
      }
    }
  });
}

// The same with the faster algorithm for this layer.
void convolve(const Geometry& g, int64_t batch, const float* x, const Filter& filter, const float* bias, float* out) {
  const WinogradSize size{batch, g.in.channels, g.out.channels, g.out.height, g.out.width};
  const bool three = g.kernel_height == 3 && g.kernel_width == 3 && g.pad_y == 1 && g.pad_x == 1;
  if (three && g.stride == 1 && g.stretch == 1 && size.pays()) {
    winograd(size, x, filter, bias, out);
  } else {
    convolve_taps(g, batch, x, filter, bias, out);
  }
}

// Adds one image's part of the filter's gradient to sums [tap][out channel][in channel, padded].
void add_filter_gradient(const Geometry& g, const float* x, const float* dout, float* sums) {
  const int64_t rows = g.block_rows(), width = g.line_width(), ins = g.in.channels, outs = g.out.channels;
  const int64_t depth = padded(ins);
  Scratch& s = scratch();
  s.lines.resize(std::max<size_t>(s.lines.size(), (g.line() + 2 * width) * depth));
  s.sums.resize(std::max<size_t>(s.sums.size(), outs * rows * width));
  for (int64_t first = 0; first < g.out.height; first += rows) {
    const int64_t now = std::min(rows, g.out.height - first);
    const std::vector<int64_t> from = sources(g, first);
    for (int64_t start = 0; start < g.line(); start += kLanes) {  // few positions at a time, so that the output stays in the cache
      const int64_t stop = std::min<int64_t>(start + kLanes, g.line());
      for (int64_t c = 0; c < ins; ++c) {
        const float* source = x + c * g.in.pixels();
        for (int64_t i = start; i < stop; ++i) s.lines[i * depth + c] = from[i] < 0 ? 0.0f : source[from[i]];
      }
    }
    for (int64_t o = 0; o < outs; ++o) {
      for (int64_t row = 0; row < now; ++row) {
        const float* source = dout + o * g.out.pixels() + (first + row) * g.out.width;
        float* to = s.sums.data() + (o * now + row) * width;
        std::copy(source, source + g.out.width, to);
        std::fill(to + g.out.width, to + width, 0.0f);
      }
    }
    for (int64_t tap = 0; tap < g.taps(); ++tap) {
      multiply(outs, ins, now * width, Strided{s.sums.data(), now * width, 1}, s.lines.data() + g.offset(tap) * depth, depth,
               sums + tap * outs * depth, depth, true);
    }
  }
}

void filter_gradient(const Geometry& g, int64_t batch, const float* x, const float* dout, float* out) {
  const int64_t ins = g.in.channels, outs = g.out.channels, depth = padded(ins), taps = g.taps();
  const int64_t groups = std::min(batch, kGroups), size = taps * outs * depth;
  std::vector<float> sums(groups * size, 0.0f);
  parallel_for(groups, batch * g.out.total() * ins * taps, [&](int64_t group) {
    for (int64_t image = group; image < batch; image += groups) {
      add_filter_gradient(g, x + image * g.in.total(), dout + image * g.out.total(), sums.data() + group * size);
    }
  });
  parallel_for(outs, groups * size, [&](int64_t o) {
    for (int64_t c = 0; c < ins; ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        float sum = 0.0f;
        for (int64_t group = 0; group < groups; ++group) sum += sums[group * size + (tap * outs + o) * depth + c];
        out[(o * ins + c) * taps + tap] = sum;
      }
    }
  });
}

void bias_gradient(const Size& size, int64_t batch, const float* dout, float* out) {
  parallel_for(size.channels, batch * size.total(), [&](int64_t channel) {
    float total = 0.0f;
    for (int64_t image = 0; image < batch; ++image) {
      const float* from = dout + image * size.total() + channel * size.pixels();
      float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < size.pixels(); ++i) sum += from[i];
      total += sum;
    }
    out[channel] = total;
  });
}

}  // namespace
}  // namespace latte

// x (N, C, H, W), filter (O, C, kh, kw), bias (O) -> (N, O, h, w)
LATTE_KERNEL(LatteConvolution) {
  using namespace latte;
  const Geometry g = forward_geometry(shapes[0], shapes[1], shapes[3]);
  const Filter filter{floats(params, 1), g.in.channels * g.taps(), g.taps(), 1};
  convolve(g, shapes[0][0], floats(params, 0), filter, floats(params, 2), floats(params, 3));
  return 0;
}

// x, filter, dout -> dx, dfilter, dbias
LATTE_KERNEL(LatteConvolutionGrad) {
  using namespace latte;
  const Geometry g = forward_geometry(shapes[0], shapes[1], shapes[2]);
  const int64_t batch = shapes[0][0];
  const float* dout = floats(params, 2);
  const Filter mirrored{floats(params, 1) + g.taps() - 1, g.taps(), g.in.channels * g.taps(), -1};
  convolve(backward_geometry(g), batch, dout, mirrored, nullptr, floats(params, 3));
  filter_gradient(g, batch, floats(params, 0), dout, floats(params, 4));
  bias_gradient(g.out, batch, dout, floats(params, 5));
  return 0;
}
