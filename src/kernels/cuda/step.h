// The step kernels around attention on a CUDA device, launched with their arguments checked. float32 throughout.
#pragma once

#include <memory>

#include "device/device.h"
#include "kernels/cuda/step_arguments.h"

namespace vortex::kernels {

class CudaStepKernels {
 public:
  explicit CudaStepKernels(device::Device&);
  static device::Source source();

  void embed(device::Stream&, const cuda::EmbedArguments&, int count) const;
  void rms_norm(device::Stream&, const cuda::NormArguments&, int count) const;
  void linear(device::Stream&, const cuda::LinearArguments&, int count) const;
  void rope(device::Stream&, const cuda::RopeArguments&, int count) const;
  void swiglu(device::Stream&, const cuda::SwigluArguments&, int count) const;
  void sample(device::Stream&, const cuda::SampleArguments&, int count) const;

 private:
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::kernels
