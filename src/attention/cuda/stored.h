// K and V as they are stored, for kernels on a CUDA device: what their text defines, and their planes.
#pragma once

#include <vortex/attention.h>

#include <cstdint>
#include <string>

#include "attention/types.h"
#include "codegen/cuda/flow_arguments.h"

namespace vortex::attention {

vortex_dtype dtype_of(KvType);
// VORTEX_KV of device/cuda/stored.cuh as a line of text; none for bf16.
std::string kv_text(vortex_dtype);
// Of one channel, and of the scale of a vector.
std::int64_t kv_channel_bytes(vortex_dtype);
std::int64_t kv_scale_bytes(vortex_dtype);

struct KvPlanes {
  cuda::Plane k, v;
};
// UserError when K and V are not stored as the kernels were made for.
KvPlanes planes_of(const vortex_kv&, vortex_dtype made_for);

}  // namespace vortex::attention
