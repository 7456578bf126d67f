// A pre-norm decoder, which most architectures are: an embedding, layers of an attention block and a feed-forward block
// whose results are added to the residual stream, a final norm, an output head. An architecture says what its blocks
// are; it refuses nothing itself.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/elementwise.h"
#include "models/weights.h"

namespace vortex::models {

// Memory that only grows, so that a steady step allocates nothing. What it held before is lost.
template <class T>
class Buffer {
 public:
  T* get(std::int64_t size) {
    if (data_.size() < static_cast<std::size_t>(size)) data_.resize(static_cast<std::size_t>(size));
    return data_.data();
  }

 private:
  std::vector<T> data_;
};

// What the blocks of a model share: one runs at a time.
struct Workspace {
  Buffer<float> wide, q, k, v, hidden, rows, results;
  Buffer<std::int32_t> indices;
  Buffer<float> shares;
};

// One step, as blocks see it.
struct BlockStep {
  std::int64_t tokens = 0;
  std::int32_t layer = 0;
  const kernels::RopeAngles& angles;
  attention::LayerAttention& attention;
  Workspace& workspace;
  ThreadPool& pool;
};

// Half a layer. A token's result depends neither on the other tokens of the step, but for attention, nor on threads.
class Block {
 public:
  virtual ~Block() = default;
  virtual std::int64_t bytes() const = 0;  // of weights that one token reads
  // out [tokens, width], what is added to the residual stream, from x [tokens, width], normed; out is not x.
  virtual void run(const BlockStep&, const float* x, float* out) const = 0;
};

// inverse frequency of each of the dim / 2 pairs of rotating channels; UserError when the config's divisors do not fit.
std::vector<float> rope_frequencies(const ModelConfig&, std::int64_t dim);

class Decoder final : public Model {
 public:
  struct Layer {
    std::unique_ptr<Block> attention, feed_forward;
  };
  // The blocks of the layer whose weights' names begin with `prefix`, "model.layers.3."; called in ascending order.
  using MakeLayer = std::function<Layer(WeightReader&, const std::string& prefix)>;

  // rotary_dim: channels of a head that rotate; 0: all of them.
  Decoder(const ModelConfig&, const WeightSource&, ThreadPool&, const MakeLayer&, std::int64_t rotary_dim = 0);

  const ModelConfig& config() const override { return config_; }
  std::int64_t weight_bytes() const override;
  void step(const StepInput&, attention::LayerAttention&, ThreadPool&) override;

 private:
  struct NormedLayer {
    std::vector<float> attention_norm, feed_forward_norm;  // [width]
    Layer blocks;
  };

  ModelConfig config_;
  Weight embeddings_;
  std::vector<NormedLayer> layers_;
  std::vector<float> final_norm_, inverse_frequency_;
  FusedLinear head_;
  kernels::RopeAngles angles_;
  Buffer<float> x_, normed_, added_;
  Workspace workspace_;
};

}  // namespace vortex::models
