// The small float kernels of a transformer step on the CPU. Row-major [tokens, width] float32 throughout. A token's
// result depends on that token alone; small calls run on the calling thread, because a parallel loop costs more than
// they do.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

namespace vortex::kernels {

// out[t, i] = x[t, i] / sqrt(mean(x[t]²) + epsilon) · weight[i]; out may be x.
void rms_norm(const float* x, const float* weight, float epsilon, float* out, std::int64_t tokens, std::int64_t width,
              ThreadPool&);

// How a weight file orders the channels that rotate together: (i, i + dim/2), or (2i, 2i + 1).
enum class RopeLayout : std::uint8_t { halves, pairs };

// cos and sin of position · inverse_frequency[i], both [tokens, half], taken in double; filled once a step for all its
// layers.
struct RopeAngles {
  std::vector<float> cosine, sine;
  std::int64_t half = 0;  // rotary_dim / 2

  // positions: [tokens]; inverse_frequency: [half].
  void fill(const std::int32_t* positions, std::int64_t tokens, const float* inverse_frequency, std::int64_t half);
};

// Rotates the first 2 · angles.half channels of each head of x [tokens, heads, head_dim] (token stride in floats) by
// the angles of its token.
void rope(float* x, std::int64_t token_stride, std::int64_t heads, std::int64_t head_dim, RopeLayout, const RopeAngles&,
          std::int64_t tokens, ThreadPool&);

// out[t, i] = silu(gate[t, i]) · up[t, i]; gate_up holds [gate | up] in each row of 2 · width.
void swiglu(const float* gate_up, float* out, std::int64_t tokens, std::int64_t width, ThreadPool&);

// x += y over `count` floats.
void add(float* x, const float* y, std::int64_t count, ThreadPool&);

}  // namespace vortex::kernels
