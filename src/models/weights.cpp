#include "models/weights.h"

#include <vortex/error.h>

#include "base/text.h"

namespace vortex::models {

std::int64_t FusedLinear::bytes() const {
  std::int64_t total = static_cast<std::int64_t>(bias_.size() * sizeof(float));
  for (const auto& part : parts_) total += part->bytes();
  return total;
}

void FusedLinear::run(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t tokens,
                      ThreadPool& pool) const {
  std::int64_t row = 0;
  for (const auto& part : parts_) {
    part->run(x, x_stride, y + row, y_stride, tokens, bias_.empty() ? nullptr : bias_.data() + row, pool);
    row += part->rows();
  }
}

std::optional<Weight> WeightReader::take(const std::string& name, std::int64_t rows, std::int64_t columns, Use use) {
  if (std::vector<RequiredWeight>* shapes = source_.shapes_only()) {
    shapes->push_back({name, rows, columns, use});
    return std::nullopt;
  }
  const std::string required = concat("the weight ", name, " of shape [", rows, ", ", columns, "]");
  auto& [view, memory] = alive_[name];
  Weight weight{view, memory.lock()};
  if (weight.memory == nullptr) {
    std::optional<Weight> found = source_.find(name);
    if (!found)
      throw UserError("model", required, concat("no such weight among the ", source_.names().size(), " given"),
                      "check that the file holds the whole model");
    weight = *found;
    view = weight.view, memory = weight.memory;
  }
  if (view.rows != rows || view.columns != columns)
    throw UserError("model", required, concat("got shape [", view.rows, ", ", view.columns, "]"),
                    "the config and the weights must be of one model");
  taken_.insert(name);
  return weight;
}

Weight WeightReader::matrix(const std::string& name, std::int64_t rows, std::int64_t columns, Use use) {
  return take(name, rows, columns, use).value_or(Weight{});
}

std::vector<float> WeightReader::vector(const std::string& name, std::int64_t size) {
  std::optional<Weight> weight = take(name, 1, size, Use::vector);
  if (!weight) return {};
  std::vector<float> values(static_cast<std::size_t>(size));
  const std::int32_t first = 0;
  kernels::gather_rows(weight->view, &first, 1, values.data(), pool_);
  return values;
}

FusedLinear WeightReader::linear(const std::vector<LinearName>& names, std::int64_t columns, bool bias,
                                 kernels::Activations activations) {
  FusedLinear fused;
  std::vector<kernels::WeightView> stack;
  std::vector<Weight> held;
  auto pack_stack = [&] {
    if (!stack.empty()) fused.parts_.push_back(kernels::PackedLinear::pack(stack, pool_, activations));
    stack.clear(), held.clear();
  };
  for (const LinearName& linear : names) {
    fused.rows_ += linear.rows;
    std::optional<Weight> weight = take(linear.name + ".weight", linear.rows, columns, Use::linear);
    if (weight) {
      if (!stack.empty() && stack.back().format != weight->view.format) pack_stack();
      stack.push_back(weight->view);
      held.push_back(*std::move(weight));
    }
    if (bias) {
      std::vector<float> values = vector(linear.name + ".bias", linear.rows);
      fused.bias_.insert(fused.bias_.end(), values.begin(), values.end());
    }
  }
  pack_stack();
  return fused;
}

void WeightReader::finish(const std::string& architecture) const {
  std::vector<std::string> unknown;
  for (const std::string& name : source_.names())
    if (!taken_.contains(name)) unknown.push_back(name);
  if (unknown.empty()) return;
  const std::size_t count = unknown.size();
  if (count > 3) unknown.resize(3);
  throw UserError("model", concat("weights that the architecture ", architecture, " uses"),
                  concat("got ", count, " that it does not: ", join(unknown, ", "), count > 3 ? ", ..." : ""),
                  "the file may be of another architecture");
}

}  // namespace vortex::models
