#include "models/replay.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/check.h"
#include "base/text.h"

namespace vortex::models {

namespace {

const char* const kWhere = "replay";

class Replay final : public Model {
 public:
  Replay(const ModelConfig& of, Recording recording)
      : config_(of), geometry_(of.attention()), recorded_(std::move(recording)) {
    heads_ = geometry_.kv_heads * geometry_.group;
    q_width_ = heads_ * geometry_.head_dim;
    k_width_ = geometry_.kv_heads * geometry_.head_dim;
    v_width_ = geometry_.values_in_keys ? 0 : geometry_.kv_heads * geometry_.value_channels();
    out_width_ = heads_ * geometry_.value_channels();
    if (recorded_.rows < 1) throw UserError(kWhere, "at least one recorded row", "none", "record some");
    require("q", recorded_.q, q_width_);
    require("k", recorded_.k, k_width_);
    require("v", recorded_.v, v_width_);
    config_.vocabulary = std::max(recorded_.rows, geometry_.layers * out_width_);
  }

  const ModelConfig& config() const override { return config_; }
  std::int64_t weight_bytes() const override { return 0; }

  void step(const StepInput& in, attention::LayerAttention& attention, ThreadPool&) override {
    const std::int64_t n = in.tokens;
    for (std::int64_t t = 0; t < n; ++t)
      if (in.token_ids[t] < 0 || in.token_ids[t] >= recorded_.rows)
        throw UserError(kWhere, concat("tokens that are recorded rows, below ", recorded_.rows),
                        concat("token ", in.token_ids[t]), "give the row of a recorded token");
    out_.resize(static_cast<std::size_t>(n * out_width_));
    std::fill_n(in.logits, in.logit_rows * config_.vocabulary, 0.0f);
    for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) {
      gather(in, recorded_.q, q_width_, layer, q_);
      gather(in, recorded_.k, k_width_, layer, k_);
      gather(in, recorded_.v, v_width_, layer, v_);
      attention.run(static_cast<std::int32_t>(layer), q_.data(), k_.data(), v_width_ > 0 ? v_.data() : nullptr,
                    out_.data());
      for (std::int64_t r = 0; r < in.logit_rows; ++r)
        std::copy_n(out_.data() + in.logit_tokens[r] * out_width_, out_width_,
                    in.logits + r * config_.vocabulary + layer * out_width_);
    }
  }

 private:
  void require(const char* name, const std::vector<float>& values, std::int64_t width) const {
    const std::int64_t wanted = recorded_.rows * geometry_.layers * width;
    if (static_cast<std::int64_t>(values.size()) != wanted)
      throw UserError(
          kWhere, concat(name, " of ", recorded_.rows, " rows, ", geometry_.layers, " layers and ", width, " numbers"),
          concat(values.size(), " numbers"), "record it from a model of this geometry");
  }

  // The rows of the step's tokens in one layer, [tokens, width].
  void gather(const StepInput& in, const std::vector<float>& from, std::int64_t width, std::int64_t layer,
              std::vector<float>& to) const {
    to.resize(static_cast<std::size_t>(in.tokens * width));
    for (std::int64_t t = 0; t < in.tokens; ++t)
      std::copy_n(from.data() + (in.token_ids[t] * geometry_.layers + layer) * width, width, to.data() + t * width);
  }

  ModelConfig config_;
  attention::Geometry geometry_;
  Recording recorded_;
  std::int64_t heads_ = 0, q_width_ = 0, k_width_ = 0, v_width_ = 0, out_width_ = 0;
  std::vector<float> q_, k_, v_, out_;
};

}  // namespace

std::unique_ptr<Model> make_replay(const ModelConfig& of, Recording recording) {
  return std::make_unique<Replay>(of, std::move(recording));
}

}  // namespace vortex::models
