#include "attention/cuda/parameters.h"

#include "base/check.h"

namespace vortex::attention {

CudaParameters::CudaParameters(const std::shared_ptr<device::Device>& device,
                               std::span<const codegen::CudaParameter> parameters, const ir::Weights& weights) {
  if (parameters.empty()) return;
  VORTEX_CHECK(weights.tensors != nullptr, "weights of a flow with parameters");
  std::vector<float> numbers;
  for (const codegen::CudaParameter& parameter : parameters) {
    const ir::Parameter& tensor = weights.tensors->at(parameter.name);
    const std::size_t leading = tensor.shape.size() - parameter.axes;
    Tensor out{.begin = static_cast<std::int64_t>(numbers.size())};
    if (leading > 0) out.layer_stride = ir::offset_of(tensor, parameter.axes, 1, 0);
    if (leading > 1) out.head_stride = ir::offset_of(tensor, parameter.axes, 0, 1);
    tensors_.push_back(out);
    numbers.insert(numbers.end(), tensor.data.begin(), tensor.data.end());
  }
  const auto stream = device->make_stream();
  numbers_ = device::upload(device, *stream, numbers);
}

void CudaParameters::put(int layer, cuda::FlowArguments::Parameter* to) const {
  for (const Tensor& tensor : tensors_)
    *to++ = {numbers_.data() + tensor.begin + layer * tensor.layer_stride, tensor.head_stride};
}

}  // namespace vortex::attention
