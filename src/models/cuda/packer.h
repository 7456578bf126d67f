// Weights of any format on their way to a device: bf16 rows, a piece at a time, packed there as the streamed linears
// read them. A weight that is bf16 already is not changed; the others are rounded once.
#pragma once

#include <memory>
#include <vector>

#include "base/float16.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "kernels/cpu/linear.h"
#include "kernels/cuda/model.h"

namespace vortex::models {

class WeightPacker {
 public:
  WeightPacker(std::shared_ptr<device::Device>, const kernels::CudaModelKernels&, ThreadPool&);

  // Room for a matrix in tiles of `tile` rows; rows that fill up the last one are zeros.
  device::Array<unsigned short> reserve(std::int64_t rows, std::int64_t columns, int tile);
  // The matrix as rows `first`.. of it; interleaved: as in cuda::PackRowsArguments.
  void pack(const kernels::WeightView&, const device::Array<unsigned short>& to, int tile, std::int64_t first = 0,
            bool interleaved = false);
  device::Array<float> upload(const std::vector<float>&);

 private:
  std::shared_ptr<device::Device> device_;
  const kernels::CudaModelKernels& kernels_;
  ThreadPool& pool_;
  std::unique_ptr<device::Stream> stream_;
  device::Array<unsigned short> piece_;
  std::vector<float> floats_;
  std::vector<BFloat16> rounded_;
};

}  // namespace vortex::models
