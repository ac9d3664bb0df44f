// Convolution with a 3 x 3 filter over float32 images, zero padding, with a quarter of the multiplications (winograd.cc).
#pragma once

#include <cstdint>

namespace latte {

// A filter's weight (out channel, in channel, tap) is at data + out * out_step + in * in_step + tap * tap_step.
struct Filter {
  const float* data;
  int64_t out_step, in_step, tap_step;
};

struct WinogradSize {
  int64_t batch, ins, outs, height, width;

  // Whether it is faster; depends only on the layer, not on the batch, since an image's result must not depend on other images.
  bool pays() const;
};

// x (batch, ins, height, width) -> out (batch, outs, height, width), plus bias unless it is null.
void winograd(const WinogradSize& size, const float* x, const Filter& filter, const float* bias, float* out);

}  // namespace latte
