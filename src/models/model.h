// A model: one architecture with its weights, run one step at a time over a flat array of tokens. Knows no pages, no
// requests and no sampling; refuses weights that are missing, misshapen or unknown to the architecture.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/layer.h"
#include "attention/types.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "kernels/cpu/linear.h"

namespace vortex::models {

// What the engine must know of a model; read from the weight file by the caller.
struct ModelConfig {
  std::string architecture;  // a name of the registry: "llama"
  std::int64_t layers = 0, width = 0, ffn_width = 0, heads = 0, kv_heads = 0, head_dim = 0, vocabulary = 0, context = 0;
  float rms_epsilon = 1e-5f;
  float rope_base = 10000.0f;
  bool tied_embeddings = false;  // the output head is the embedding matrix
  // Scaled RoPE, whatever its kind: the frequency of pair i is rope_base^(-2i / dim) / rope_divisors[i] (empty: 1), and
  // rotated channels are multiplied by rope_magnitude.
  std::vector<float> rope_divisors = {};
  float rope_magnitude = 1.0f;
  // A mixture of experts: how many there are and each token takes, and the rows of gate and up of each; 0: none.
  std::int64_t experts = 0, experts_per_token = 0, expert_width = 0;
  bool normalise_experts = true;  // the shares of a token's experts add up to 1

  // Latent attention (MLA); 0: none. Each head has head_dim channels of q, of which the last qk_rope_dim rotate, and
  // value_dim of v; a token stores kv_lora_rank + qk_rope_dim numbers. q comes through q_lora_rank channels; 0:
  // directly.
  std::int64_t kv_lora_rank = 0, qk_rope_dim = 0, value_dim = 0, q_lora_rank = 0;
  float attention_scale = 0.0f;  // of the logits; 0: 1 / sqrt(head_dim)

  // UserError names the first setting that is out of range.
  void validate() const;

  // What attention is given and stores, whatever the layers compute around it; the page size is the engine's.
  attention::Geometry attention() const;
};

// One weight; `memory` keeps what the view points at, null where the caller keeps it as long as the model lives.
struct Weight {
  kernels::WeightView view;
  std::shared_ptr<const void> memory;
};

// A weight that an architecture asks for, and what becomes of it.
struct RequiredWeight {
  enum class Use : std::uint8_t { linear, vector, in_place };  // repacked; made float; read where it lies
  std::string name;
  std::int64_t rows = 0, columns = 0;
  Use use = Use::linear;
};

// Where weights come from: by name (HF names: "model.layers.0.self_attn.q_proj.weight"), channels of q and k in HF
// order (RoPE rotates i with i + head_dim / 2). A vector is one row. A weight is mapped, converted or made when it is
// asked for and may go once it is packed, so a model is never in memory twice. Called by one thread.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual std::optional<Weight> find(const std::string& name) const = 0;
  // Not null where only the names and shapes are wanted: they are put there, no weight is asked for, and the model that
  // comes out cannot run.
  virtual std::vector<RequiredWeight>* shapes_only() const { return nullptr; }
};

// Weights that all lie in memory already, kept by the caller as long as the model lives.
using Weights = std::map<std::string, kernels::WeightView>;

struct StepInput {
  std::int64_t tokens = 0;
  const std::int32_t* token_ids = nullptr;  // [tokens]
  const std::int32_t* positions = nullptr;  // [tokens]
  std::int64_t logit_rows = 0;
  const std::int32_t* logit_tokens = nullptr;  // [logit_rows] rows of the step whose logits are wanted
  float* logits = nullptr;                     // [logit_rows, vocabulary], out
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual std::int64_t weight_bytes() const = 0;                              // read by one decode step
  virtual std::shared_ptr<device::Device> device() const { return nullptr; }  // that holds its weights; null: the CPU
  // On the CPU alone: UserError from a model on a device. One step at a time: the workspace is the model's own, kept
  // between steps, so a steady step allocates nothing.
  virtual void step(const StepInput&, attention::LayerAttention&, ThreadPool&) = 0;
};

// UserError names the architectures there are, or the weight that is missing, misshapen or unknown.
std::unique_ptr<Model> make_model(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_model(const ModelConfig&, const Weights&, ThreadPool&);
// With its weights on the device, as bf16; null or a cpu device: as above. UserError says what the device does not
// serve.
std::unique_ptr<Model> make_model(const ModelConfig&, const WeightSource&, ThreadPool&,
                                  std::shared_ptr<device::Device>);
// The weights that the architecture asks for, in its order; an embedding that is the output head too comes twice.
std::vector<RequiredWeight> required_weights(const ModelConfig&);
const std::vector<std::string>& architectures();

}  // namespace vortex::models
