// Branch-free elementary functions that a compiler can vectorise. A NaN argument gives NaN.
#pragma once

#include <cstdint>
#include <cstring>

namespace latte {

// e^x to about 1e-7 relative for x in [-87.3, 88.3], clamped outside of it.
inline float exp_fast(float x) {
  x = x < -87.3f ? -87.3f : x;  // written so that NaN fails both comparisons and passes through
  x = x > 88.3f ? 88.3f : x;
  const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const float shifted = x * 1.44269504088896341f + shifter;
  const float n = shifted - shifter;
  const float r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;  // Cody and Waite's split of ln 2
  float p = 1.9875691500e-4f;  // minimax coefficients of Cephes' expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = static_cast<int32_t>((static_cast<uint32_t>(bits) + 127u) << 23);  // the shifter's bits overflow
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exp_fast(-x)); }

}  // namespace latte
