// What a model on a device calls once a layer, and what the engine prepares for it once a step. Knows no pool and no
// model.
#pragma once

#include <cstdint>

#include "device/device.h"

namespace vortex::attention {

// The new tokens of a step in one layer. Pointers are of the device.
struct CudaLayerTokens {
  int layer = 0;
  const float* qkv = nullptr;  // [tokens, stride]: heads of q, k, v side by side
  std::int64_t stride = 0;
  const float* bias = nullptr;      // [stride] or null
  const float* q_norm = nullptr;    // [head_dim] or null
  const float* k_norm = nullptr;    // [head_dim] or null
  const float* rotation = nullptr;  // [positions, head_dim / 2, 2]: cosine, sine
  float epsilon = 0;
  // Where the attended tokens go, as the next linear reads them: blocks of operand_rows tokens, each
  // [channels / 64, operand_rows, 64].
  unsigned short* operand = nullptr;
  int operand_rows = 0;
};

class CudaLayerAttention {
 public:
  virtual ~CudaLayerAttention() = default;
  // Bias, norm and RoPE, K and V to the pool, summaries, and attention.
  virtual void run(device::Stream&, const CudaLayerTokens&) = 0;
};

}  // namespace vortex::attention
