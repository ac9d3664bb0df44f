// Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin & Gray 2016): tiles of 4 x 4 output pixels, each from 6 x 6 input pixels.
//
// Both axes are interpolated at 0, +-3/4, +-3/2 and infinity, which are exact in binary: over 256 channels the error is 7 times
// that of a direct sum in float32 (root mean square 1.5e-6 of the result's), with the usual 0, +-1, +-2 and infinity it is 15.
// For every position of the 6 x 6, tiles and filters are combined by a matrix product over the channels. Work per tile only moves
// numbers; all arithmetic is on complete vectors, so that a tile's result does not depend on its position among others.
#include "winograd.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "matrix.h"
#include "parallel.h"

namespace latte {
namespace {

constexpr int kIn = 6, kOut = 4, kPlaces = kIn * kIn;     // pixels of a tile's side: read, written; places of a tile read
constexpr float kA = 0.75f, kB = 1.5f;                    // the points other than 0 and infinity, with both signs
constexpr float kA2 = kA * kA, kB2 = kB * kB, kSum = kA2 + kB2, kProduct = kA2 * kB2;
constexpr int kVectors = 3, kWidth = kVectors * kLanes;   // tiles of a panel
constexpr int kRows = kPanel >= 4 ? 8 : 4;                // out channels of a product's tile, limited by registers
constexpr int64_t kOuts = 32;                             // out channels per task
constexpr int64_t kDepth = 128;                           // in channels per product: kWidth of each fit the L1 cache
constexpr int64_t kReadFloats = int64_t{4} << 20;         // of transformed tiles at a time: part of the last-level cache
constexpr int64_t kTaskPanels = 11;                       // panels per task, for which its filters are transformed once

// Six pixels of a line, or six sums of such, to the six values at the points: the columns of B.
inline void read_points(const Lanes* d, int step, Lanes* t) {
  const Lanes even_a = d[4 * step] - kB2 * d[2 * step], odd_a = d[3 * step] - kB2 * d[step];
  const Lanes even_b = d[4 * step] - kA2 * d[2 * step], odd_b = d[3 * step] - kA2 * d[step];
  t[0] = d[4 * step] - kSum * d[2 * step] + kProduct * d[0];
  t[1] = even_a + kA * odd_a;
  t[2] = even_a - kA * odd_a;
  t[3] = even_b + kB * odd_b;
  t[4] = even_b - kB * odd_b;
  t[5] = d[5 * step] - kSum * d[3 * step] + kProduct * d[step];
}

// Six products at the points to the four output pixels: the columns of A.
inline void write_points(const Lanes* m, int step, Lanes* y) {
  const Lanes even_a = m[step] + m[2 * step], odd_a = m[step] - m[2 * step];
  const Lanes even_b = m[3 * step] + m[4 * step], odd_b = m[3 * step] - m[4 * step];
  y[0] = m[0] + even_a + even_b;
  y[1] = kA * odd_a + kB * odd_b;
  y[2] = kA2 * even_a + kB2 * even_b;
  y[3] = kA * kA2 * odd_a + kB * kB2 * odd_b + m[5 * step];
}

// Three weights of a line to their values at the points, over what the points' polynomials lack: the columns of G.
inline void filter_points(const Lanes* g, int step, Lanes* u) {
  constexpr float over_a = 1.0f / (2.0f * kA2 * (kA2 - kB2)), over_b = 1.0f / (2.0f * kB2 * (kB2 - kA2));
  const Lanes even_a = over_a * (g[0] + kA2 * g[2 * step]), odd_a = over_a * kA * g[step];
  const Lanes even_b = over_b * (g[0] + kB2 * g[2 * step]), odd_b = over_b * kB * g[step];
  u[0] = g[0] * (1.0f / kProduct);
  u[1] = even_a + odd_a;
  u[2] = even_a - odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = g[2 * step];
}

// The tiles of all images, row by row, cut into panels.
struct Tiles {
  int64_t height, width, rows, columns, total;
  explicit Tiles(const WinogradSize& s)
      : height(s.height), width(s.width), rows((s.height + kOut - 1) / kOut), columns((s.width + kOut - 1) / kOut),
        total(s.batch * rows * columns) {}

  // Calls body(image, the tiles' first pixel row and column, lane of the first, number) for the tiles from `first` on that fill a
  // panel, those of one row at a time.
  template <class Body>
  void for_runs(int64_t first, const Body& body) const {
    for (int64_t lane = 0, tile = first; lane < kWidth && tile < total;) {
      const int64_t row = tile / columns, column = tile % columns;
      const int64_t count = std::min({columns - column, kWidth - lane, total - tile});
      body(row / rows, row % rows * kOut, column * kOut, lane, count);
      lane += count;
      tile += count;
    }
  }
};

// Memory reused by a thread, grown as needed and aligned to cache lines.
float* room(std::vector<float>& kept, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(float);
  kept.resize(std::max<size_t>(kept.size(), count + kLine));
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(kept.data()) + 63) / 64 * 64);
}

inline Lanes& lanes(float* p) { return *reinterpret_cast<Lanes*>(p); }
inline const Lanes& lanes(const float* p) { return *reinterpret_cast<const Lanes*>(p); }

// Every fourth pixel of a line, starting at the first, second, third and fourth.
inline void part(const float* __restrict line, float* __restrict first, float* __restrict second, float* __restrict third,
                 float* __restrict fourth) {
  for (int t = 0; t < kLanes; ++t) {
    first[t] = line[kOut * t];
    second[t] = line[kOut * t + 1];
    third[t] = line[kOut * t + 2];
    fourth[t] = line[kOut * t + 3];
  }
}

// The inverse; the parts are `step` apart.
inline void join(const float* __restrict parts, int step, float* __restrict line) {
  for (int t = 0; t < kLanes; ++t) {
    for (int p = 0; p < kOut; ++p) line[kOut * t + p] = parts[p * step + t];
  }
}

// One in channel of a panel's tiles, to `to` + place * place_step + lane. x: the channel in the first image.
void read_panel(const Tiles& tiles, int64_t first, const float* x, int64_t image_step, float* to, int64_t place_step) {
  constexpr int kRoom = kWidth + kLanes;  // whole vectors are written from any lane on; the next run's lie over the excess
  alignas(64) float pixels[kPlaces][kRoom];
  if (tiles.total - first < kWidth) std::memset(pixels, 0, sizeof(pixels));
  tiles.for_runs(first, [&](int64_t image, int64_t y, int64_t x0, int64_t lane, int64_t count) {
    alignas(64) float line[kOut * kWidth], phases[kOut][kRoom + 2];
    const int64_t there = tiles.width - x0, wanted = (count + kLanes - 1) / kLanes * kLanes;
    for (int i = 0; i < kIn; ++i) {
      const int64_t row = y + i - 1;
      if (row < 0 || row >= tiles.height) {
        for (int j = 0; j < kIn; ++j) {
          for (int64_t t = 0; t < wanted; t += kLanes) lanes(pixels[i * kIn + j] + lane + t) = Lanes{};
        }
        continue;
      }
      const float* const source = x + image * image_step + row * tiles.width + x0;
      const float* from = source;
      if (there < kOut * wanted) {
        std::copy(source, source + there, line);
        std::fill(line + there, line + kOut * wanted, 0.0f);
        from = line;
      }
      for (int64_t t = 1; t <= wanted; t += kLanes, from += kOut * kLanes) {
        part(from, phases[0] + t, phases[1] + t, phases[2] + t, phases[3] + t);
      }
      phases[kOut - 1][0] = x0 > 0 ? source[-1] : 0.0f;
      phases[0][count + 1] = there > kOut * count ? source[kOut * count] : 0.0f;
      const float* columns[kIn] = {phases[3], phases[0] + 1, phases[1] + 1, phases[2] + 1, phases[3] + 1, phases[0] + 2};
      for (int j = 0; j < kIn; ++j) {
        for (int64_t t = 0; t < wanted; t += kLanes) lanes(pixels[i * kIn + j] + lane + t) = lanes(columns[j] + t);
      }
    }
  });
  for (int v = 0; v < kVectors; ++v) {
    Lanes half[kPlaces], t[kIn];
    for (int j = 0; j < kIn; ++j) {
      Lanes d[kIn];
      for (int i = 0; i < kIn; ++i) d[i] = lanes(pixels[i * kIn + j] + v * kLanes);
      read_points(d, 1, t);
      for (int i = 0; i < kIn; ++i) half[i * kIn + j] = t[i];
    }
    for (int i = 0; i < kIn; ++i) {
      read_points(half + i * kIn, 1, t);
      for (int j = 0; j < kIn; ++j) lanes(to + (i * kIn + j) * place_step + v * kLanes) = t[j];
    }
  }
}

// One out channel of a panel's tiles, from products at `from` + place * place_step + lane. out: the channel in the first image.
void write_panel(const Tiles& tiles, int64_t first, const float* from, int64_t place_step, float bias, float* out,
                 int64_t image_step) {
  constexpr int kRoom = kWidth + kLanes;
  alignas(64) float pixels[kOut][kOut][kRoom];
  for (int v = 0; v < kVectors; ++v) {
    Lanes half[kOut * kIn], y[kOut];
    for (int j = 0; j < kIn; ++j) {
      Lanes m[kIn];
      for (int i = 0; i < kIn; ++i) m[i] = lanes(from + (i * kIn + j) * place_step + v * kLanes);
      write_points(m, 1, y);
      for (int i = 0; i < kOut; ++i) half[i * kIn + j] = y[i];
    }
    for (int i = 0; i < kOut; ++i) {
      write_points(half + i * kIn, 1, y);
      for (int j = 0; j < kOut; ++j) lanes(pixels[i][j] + v * kLanes) = y[j] + bias;
    }
  }
  tiles.for_runs(first, [&](int64_t image, int64_t y, int64_t x0, int64_t lane, int64_t count) {
    alignas(64) float line[kOut * kWidth];
    const int64_t inside = std::min(kOut * count, tiles.width - x0);
    for (int i = 0; i < kOut && y + i < tiles.height; ++i) {
      for (int64_t t = 0; t < count; t += kLanes) join(pixels[i][0] + lane + t, kRoom, line + kOut * t);
      std::copy(line, line + inside, out + image * image_step + (y + i) * tiles.width + x0);
    }
  });
}

// The filters of out channels from `first` on, kRows at a time and lacking ones as zeros: [place][block][in channel][kRows].
void transform_filters(const WinogradSize& s, const Filter& filter, int64_t first, int64_t blocks, float* to) {
  constexpr int64_t kChannels = std::max(1, kLanes / kRows);  // in channels a vector
  constexpr int64_t kVectorsApart = std::max(1, kRows / kLanes);  // vectors an in channel
  alignas(64) float weights[9][kChannels * kRows];
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t c = 0; c < s.ins; c += kChannels) {
      const int64_t now = std::min(kChannels, s.ins - c);
      for (int64_t k = 0; k < kChannels; ++k) {
        for (int64_t i = 0; i < kRows; ++i) {
          const int64_t o = first + block * kRows + i;
          const float* from = filter.data + o * filter.out_step + (c + k) * filter.in_step;
          const bool there = k < now && o < s.outs;
          for (int tap = 0; tap < 9; ++tap) weights[tap][k * kRows + i] = there ? from[tap * filter.tap_step] : 0.0f;
        }
      }
      for (int64_t v = 0; v < kVectorsApart; ++v) {
        Lanes g[9], half[kIn * 3], u[kIn];
        for (int tap = 0; tap < 9; ++tap) g[tap] = *reinterpret_cast<const Lanes*>(weights[tap] + v * kLanes);
        for (int j = 0; j < 3; ++j) {
          filter_points(g + j, 3, u);
          for (int i = 0; i < kIn; ++i) half[i * 3 + j] = u[i];
        }
        for (int i = 0; i < kIn; ++i) {
          filter_points(half + i * 3, 1, u);
          for (int j = 0; j < kIn; ++j) {
            float* target = to + (((i * kIn + j) * blocks + block) * s.ins + c) * kRows + v * kLanes;
            std::memcpy(target, &u[j], std::min<size_t>(sizeof(Lanes), now * kRows * sizeof(float)));
          }
        }
      }
    }
  }
}

// products [block][kRows][kWidth] = filters [block][in channel][kRows] times tiles [in channel][kWidth]; `vectors` of tiles count.
void multiply_place(int64_t blocks, int64_t ins, const float* filters, const float* tiles, int vectors, float* products) {
  for (int64_t begin = 0; begin < ins; begin += kDepth) {
    const int64_t depth = std::min(kDepth, ins - begin);
    const float* right = tiles + begin * kWidth;
    for (int64_t block = 0; block < blocks; ++block) {
      const Strided left{filters + (block * ins + begin) * kRows, 1, kRows};
      float* sums = products + block * kRows * kWidth;
      switch (vectors) {
        case 1: tile<kRows, 1>(depth, left, right, kWidth, sums, kWidth, begin > 0); break;
        case 2: tile<kRows, 2>(depth, left, right, kWidth, sums, kWidth, begin > 0); break;
        default: tile<kRows, 3>(depth, left, right, kWidth, sums, kWidth, begin > 0);
      }
    }
  }
}

}  // namespace

// Not worthwhile for few out channels with many in channels, or for small images, which leave most of a panel empty.
bool WinogradSize::pays() const { return outs >= 8 && 4 * outs >= ins && height * width > 64; }

void winograd(const WinogradSize& s, const float* x, const Filter& filter, const float* bias, float* out) {
  const Tiles tiles(s);
  const int64_t image = s.height * s.width, panels = (tiles.total + kWidth - 1) / kWidth, panel_floats = kPlaces * s.ins * kWidth;
  const int64_t at_once = std::clamp(kReadFloats / panel_floats, int64_t{1}, panels);
  const int64_t out_blocks = (s.outs + kOuts - 1) / kOuts;
  thread_local std::vector<float> kept;
  float* const read = room(kept, at_once * panel_floats);
  for (int64_t start = 0; start < panels; start += at_once) {
    const int64_t now = std::min(at_once, panels - start), groups = (now + kTaskPanels - 1) / kTaskPanels;
    parallel_for(s.ins * now, 400 * s.ins * now * kWidth, [&](int64_t task) {
      const int64_t panel = task / s.ins, c = task % s.ins;
      float* to = read + panel * panel_floats + c * kWidth;
      read_panel(tiles, (start + panel) * kWidth, x + c * image, s.ins * image, to, s.ins * kWidth);
    });
    parallel_for(out_blocks * groups, s.ins * s.outs * now * kWidth, [&](int64_t task) {
      const int64_t first = task % out_blocks * kOuts, channels = std::min(kOuts, s.outs - first);
      const int64_t blocks = (channels + kRows - 1) / kRows, group = task / out_blocks;
      thread_local std::vector<float> kept_filters, kept_products;
      float* const filters = room(kept_filters, kPlaces * blocks * kRows * s.ins);
      float* const products = room(kept_products, kPlaces * kOuts * kWidth);
      transform_filters(s, filter, first, blocks, filters);
      for (int64_t panel = now * group / groups; panel < now * (group + 1) / groups; ++panel) {
        const int64_t first_tile = (start + panel) * kWidth;
        const int vectors = static_cast<int>(std::min<int64_t>(kVectors, (tiles.total - first_tile + kLanes - 1) / kLanes));
        for (int64_t place = 0; place < kPlaces; ++place) {
          multiply_place(blocks, s.ins, filters + place * blocks * kRows * s.ins,
                         read + panel * panel_floats + place * s.ins * kWidth, vectors, products + place * kOuts * kWidth);
        }
        for (int64_t o = 0; o < channels; ++o) {
          write_panel(tiles, first_tile, products + o * kWidth, kOuts * kWidth, bias == nullptr ? 0.0f : bias[first + o],
                      out + (first + o) * image, s.outs * image);
        }
      }
    });
  }
}

}  // namespace latte
