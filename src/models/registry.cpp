// The architectures there are: one row each.
#include <vortex/error.h>

#include <cmath>

#include "base/text.h"
#include "models/architectures.h"
#if VORTEX_CUDA
#include "models/cuda/decoder.h"
#endif

namespace vortex::models {

namespace {

struct Architecture {
  const char* name;  // as Hugging Face configs spell it (model_type)
  std::unique_ptr<Model> (*make)(const ModelConfig&, const WeightSource&, ThreadPool&);
  const GroupedQueryOptions* on_device = nullptr;  // null: only the CPU has it
};

constexpr Architecture kArchitectures[] = {
    {"llama", make_llama, &kLlama}, {"qwen2", make_qwen2, &kQwen2}, {"qwen3", make_qwen3, &kQwen3},
    {"qwen3_moe", make_qwen3_moe},  {"deepseek_v2", make_deepseek}, {"deepseek_v3", make_deepseek},
};

class WeightsInMemory final : public WeightSource {
 public:
  explicit WeightsInMemory(const Weights& weights) : weights_(weights) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, view] : weights_) all.push_back(name);
    return all;
  }
  std::optional<Weight> find(const std::string& name) const override {
    auto found = weights_.find(name);
    return found == weights_.end() ? std::nullopt : std::optional<Weight>({found->second, nullptr});
  }

 private:
  const Weights& weights_;
};

class ShapesOnly final : public WeightSource {
 public:
  explicit ShapesOnly(std::vector<RequiredWeight>& shapes) : shapes_(shapes) {}
  std::vector<std::string> names() const override { return {}; }
  std::optional<Weight> find(const std::string&) const override { return std::nullopt; }
  std::vector<RequiredWeight>* shapes_only() const override { return &shapes_; }

 private:
  std::vector<RequiredWeight>& shapes_;
};

}  // namespace

const std::vector<std::string>& architectures() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Architecture& row : kArchitectures) all.push_back(row.name);
    return all;
  }();
  return names;
}

void ModelConfig::validate() const {
  auto require = [&](bool holds, const char* required, const char* name, auto came) {
    if (!holds)
      throw UserError("model config", concat(name, " ", required), concat("got ", name, " = ", came),
                      "the weight file's metadata may be damaged");
  };
  auto in_range = [&](const char* name, std::int64_t value, std::int64_t most) {
    require(value >= 1 && value <= most, concat("from 1 to ", most).c_str(), name, value);
  };
  in_range("layers", layers, 1 << 12);
  in_range("width", width, 1 << 20);
  in_range("ffn_width", ffn_width, 1 << 22);
  in_range("heads", heads, 1 << 14);
  in_range("kv_heads", kv_heads, heads);
  in_range("head_dim", head_dim, 1 << 14);
  in_range("vocabulary", vocabulary, 1 << 24);
  in_range("context", context, 1 << 30);
  require(heads % kv_heads == 0, "that divides heads", "kv_heads", kv_heads);
  require(head_dim % 2 == 0, "that is even", "head_dim", head_dim);
  if (kv_lora_rank != 0) {
    in_range("kv_lora_rank", kv_lora_rank, 1 << 14);
    in_range("qk_rope_dim", qk_rope_dim, head_dim - 1);
    in_range("value_dim", value_dim, 1 << 14);
    require(kv_lora_rank % 2 == 0, "that is even", "kv_lora_rank", kv_lora_rank);
    require(qk_rope_dim % 2 == 0, "that is even", "qk_rope_dim", qk_rope_dim);
    require(q_lora_rank >= 0 && q_lora_rank <= 1 << 20, "from 0 to 1048576", "q_lora_rank", q_lora_rank);
  }
  require(std::isfinite(attention_scale) && attention_scale >= 0, "of at least 0", "attention_scale", attention_scale);
  require(rms_epsilon > 0 && rms_epsilon < 1, "between 0 and 1", "rms_epsilon", rms_epsilon);
  require(std::isfinite(rope_magnitude) && rope_magnitude > 0, "above 0", "rope_magnitude", rope_magnitude);
  for (float divisor : rope_divisors)
    require(std::isfinite(divisor) && divisor > 0, "above 0", "rope_divisors", divisor);
  if (experts != 0 || experts_per_token != 0) {
    in_range("experts", experts, 1 << 14);
    in_range("experts in all layers", experts * layers, 1 << 17);
    in_range("experts_per_token", experts_per_token, experts);
    in_range("expert_width", expert_width, 1 << 22);
  }
  require(rope_base >= 1 && rope_base < 1e12f, "from 1 to 1e12", "rope_base", rope_base);
}

attention::Geometry ModelConfig::attention() const {
  attention::Geometry geometry{
      .layers = layers,
      .kv_heads = kv_heads,
      .group = heads / kv_heads,
      .head_dim = head_dim,
      .scale = attention_scale > 0 ? attention_scale : 1.0f / std::sqrt(static_cast<float>(head_dim))};
  if (kv_lora_rank > 0) {  // one latent for all heads; the scale stays that of the heads it stands for
    geometry.kv_heads = 1;
    geometry.group = heads;
    geometry.head_dim = kv_lora_rank + qk_rope_dim;
    geometry.value_dim = kv_lora_rank;
    geometry.values_in_keys = true;
  }
  return geometry;
}

namespace {

const Architecture& architecture_of(const ModelConfig& config) {
  for (const Architecture& row : kArchitectures) {
    if (config.architecture != row.name) continue;
    config.validate();
    return row;
  }
  std::string near = nearest_name(config.architecture, architectures());
  throw UserError("model", concat("one of the architectures ", join(architectures(), ", ")),
                  concat("got \"", config.architecture, "\""),
                  near.empty() ? "docs/how-to/add-a-model.md says how to add one" : concat("did you mean ", near, "?"));
}

}  // namespace

std::unique_ptr<Model> make_model(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  return architecture_of(config).make(config, weights, pool);
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool,
                                  std::shared_ptr<device::Device> device) {
  const Architecture& row = architecture_of(config);
  if (device == nullptr || device->kind() == device::Kind::cpu) return row.make(config, weights, pool);
  if (row.on_device == nullptr) {
    std::vector<std::string> served;
    for (const Architecture& other : kArchitectures)
      if (other.on_device != nullptr) served.push_back(other.name);
    throw UserError("model",
                    concat("on ", device::name_of(device->kind()), " one of the architectures ", join(served, ", ")),
                    config.architecture, "run this model on the cpu");
  }
#if VORTEX_CUDA
  return std::make_unique<CudaDecoder>(config, weights, pool, std::move(device), *row.on_device);
#else
  throw MachineError("model", "a build with the CUDA device was required", "this build found no CUDA headers",
                     "install a CUDA toolkit, set CUDA_HOME to it and build again, or use the cpu device");
#endif
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const Weights& weights, ThreadPool& pool) {
  return make_model(config, WeightsInMemory(weights), pool);
}

std::vector<RequiredWeight> required_weights(const ModelConfig& config) {
  std::vector<RequiredWeight> shapes;
  ThreadPool pool(1);
  make_model(config, ShapesOnly(shapes), pool);
  return shapes;
}

}  // namespace vortex::models
