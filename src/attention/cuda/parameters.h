// The learned tensors of a flow in device memory, as its kernels read them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "codegen/cuda/flow_arguments.h"
#include "codegen/cuda/print.h"
#include "device/device.h"
#include "ir/weights.h"

namespace vortex::attention {

class CudaParameters {
 public:
  // Copies the tensors that the flow's text names: they have been checked against the model (ir::require_weights).
  // MachineError when they do not fit.
  CudaParameters(const std::shared_ptr<device::Device>&, std::span<const codegen::CudaParameter>, const ir::Weights&);

  // Where each lies for a layer.
  void put(int layer, cuda::FlowArguments::Parameter* to) const;
  std::int64_t bytes() const { return numbers_.bytes(); }

 private:
  struct Tensor {
    std::int64_t begin = 0, layer_stride = 0, head_stride = 0;  // in elements
  };
  device::Array<float> numbers_;
  std::vector<Tensor> tensors_;
};

}  // namespace vortex::attention
