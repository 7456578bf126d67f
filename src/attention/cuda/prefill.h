// Attention of prompt chunks on a CUDA device: the new tokens of one sequence, whose K and V are stored, over all pages
// before them. Not captured: its sizes are the host's.
#pragma once

#include <memory>

#include "attention/cuda/chain.h"
#include "attention/cuda/prefill_arguments.h"

namespace vortex::attention {

struct CudaChunk {
  const int* pages = nullptr;  // of the sequence, on the device
  int context = 0, count = 0;  // tokens before the chunk, and of it
  unsigned short* operand = nullptr;
  int operand_rows = 0, first = 0;  // as in cuda::PrefillArguments
};

class CudaPrefill {
 public:
  // UserError when the geometry is not served: head_dim 64 or 128, at most 16 query heads a KV head.
  CudaPrefill(device::Device&, const vortex_geometry&, vortex_dtype kv = VORTEX_BFLOAT16);
  static device::Source source(const vortex_geometry&, vortex_dtype kv = VORTEX_BFLOAT16);

  // layer: kv and q [count, q_stride] are read; its batch is not.
  void attend(device::Stream&, const CudaLayer&, const CudaChunk&) const;

 private:
  vortex_geometry geometry_;
  vortex_dtype kv_;
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::attention
