// Convolution by a filter of 3 x 3 over float32 images, zeros around, in a quarter of the multiplications (winograd.cc).
#pragma once

#include <cstdint>

namespace latte {

// Where a filter's weight (out channel, in channel, tap) is: at data + out * out_step + in * in_step + tap * tap_step.
struct Filter {
  const float* data;
  int64_t out_step, in_step, tap_step;
};

struct WinogradSize {
  int64_t batch, ins, outs, height, width;

  // Whether it pays: a matter of the layer alone, never of the batch, in which an image's numbers may not depend on its company.
  bool pays() const;
};

// x (batch, ins, height, width) -> out (batch, outs, height, width), plus bias unless it is null.
void winograd(const WinogradSize& size, const float* x, const Filter& filter, const float* bias, float* out);

}  // namespace latte
