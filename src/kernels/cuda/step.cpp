// Launches of the step kernels.
#include "kernels/cuda/step.h"

namespace vortex::kernels {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr unsigned kThreads = 128;

unsigned positive(int value, const char* what) {
  VORTEX_CHECK(value > 0, what, " ", value);
  return static_cast<unsigned>(value);
}

}  // namespace

device::Source CudaStepKernels::source() {
  return {.name = "step",
          .text = std::string(device_source("kernels/cuda/step.cuh")),
          .headers = {device::device_header(),
                      {"kernels/cuda/step_arguments.h", std::string(device_source("kernels/cuda/step_arguments.h"))}},
          .kernels = {"embed", "rms_norm", "linear", "rope", "swiglu", "sample"}};
}

CudaStepKernels::CudaStepKernels(device::Device& device) : module_(device.load(source())) {}

void CudaStepKernels::embed(device::Stream& stream, const cuda::EmbedArguments& a, int count) const {
  stream.launch(module_->kernel("embed"), {positive(count, "count")}, {kThreads}, a);
}

void CudaStepKernels::rms_norm(device::Stream& stream, const cuda::NormArguments& a, int count) const {
  stream.launch(module_->kernel("rms_norm"), {positive(count, "count")}, {kThreads}, a);
}

void CudaStepKernels::linear(device::Stream& stream, const cuda::LinearArguments& a, int count) const {
  constexpr unsigned kWarps = kThreads / 32;
  stream.launch(module_->kernel("linear"), {(positive(a.rows, "rows") + kWarps - 1) / kWarps, positive(count, "count")},
                {kThreads}, a);
}

void CudaStepKernels::rope(device::Stream& stream, const cuda::RopeArguments& a, int count) const {
  VORTEX_CHECK(a.head_dim > 0 && a.head_dim % 2 == 0, "head_dim ", a.head_dim);
  stream.launch(module_->kernel("rope"), {positive(a.heads, "heads"), positive(count, "count")}, {kThreads}, a);
}

void CudaStepKernels::swiglu(device::Stream& stream, const cuda::SwigluArguments& a, int count) const {
  stream.launch(module_->kernel("swiglu"), {positive(count, "count")}, {kThreads}, a);
}

void CudaStepKernels::sample(device::Stream& stream, const cuda::SampleArguments& a, int count) const {
  VORTEX_CHECK(a.vocabulary > 0 && a.capacity > 0, "vocabulary ", a.vocabulary, ", capacity ", a.capacity);
  stream.launch(module_->kernel("sample"), {positive(count, "count")}, {256}, a);
}

}  // namespace vortex::kernels
