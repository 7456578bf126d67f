// What the engine's tests share: a model of a few thousand weights whose logits depend on all of attention, and helpers
// that run requests to their end.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "engine/engine.h"
#include "ir/op.h"

namespace vortex::engine {

class TinyModel final : public models::Model {
 public:
  explicit TinyModel(std::uint64_t seed = 1) {
    config_ = {.architecture = "tiny",
               .layers = 2,
               .width = 64,
               .ffn_width = 0,
               .heads = 4,
               .kv_heads = 2,
               .head_dim = 16,
               .vocabulary = 61,
               .context = 1024};
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    auto make = [&](std::int64_t rows, std::int64_t columns, float scale) {
      std::vector<float> out(static_cast<std::size_t>(rows * columns));
      for (float& x : out) x = scale * normal(random);
      return out;
    };
    embedding_ = make(config_.vocabulary, config_.width, 1.0f);
    for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
      q_.push_back(make(64, 64, 0.3f));
      k_.push_back(make(32, 64, 0.3f));
      v_.push_back(make(32, 64, 0.125f));
    }
  }

  const models::ModelConfig& config() const override { return config_; }
  std::int64_t weight_bytes() const override { return 4 * static_cast<std::int64_t>(embedding_.size()); }

  void step(const models::StepInput& in, attention::LayerAttention& attention, ThreadPool& pool) override {
    auto n = static_cast<std::size_t>(in.tokens);
    x_.resize(n * 64), q_now_.resize(n * 64), k_now_.resize(n * 32), v_now_.resize(n * 32);
    if (fail_next) {
      fail_next = false;
      throw std::runtime_error("the model fails");
    }
    tokens_seen += in.tokens;
    for (std::size_t t = 0; t < n; ++t)
      for (std::size_t i = 0; i < 64; ++i)
        x_[t * 64 + i] = embedding_[static_cast<std::size_t>(in.token_ids[t]) * 64 + i] +
                         std::sin(static_cast<float>(in.positions[t]) * 0.01f * static_cast<float>(i + 1));
    for (std::size_t layer = 0; layer < 2; ++layer) {
      pool.for_each(in.tokens, [&](std::int64_t index, int) {
        auto t = static_cast<std::size_t>(index);
        multiply(q_[layer], 64, &x_[t * 64], &q_now_[t * 64]);
        multiply(k_[layer], 32, &x_[t * 64], &k_now_[t * 32]);
        multiply(v_[layer], 32, &x_[t * 64], &v_now_[t * 32]);
      });
      attention.run(static_cast<std::int32_t>(layer), q_now_.data(), k_now_.data(), v_now_.data(), q_now_.data());
      if (fail_late) {
        fail_late = false;
        throw std::runtime_error("the model fails after the first layer");
      }
      for (std::size_t i = 0; i < n * 64; ++i) x_[i] = std::tanh(x_[i] + 2.0f * q_now_[i]);
    }
    for (std::int64_t row = 0; row < in.logit_rows; ++row)
      multiply(embedding_, 61, &x_[static_cast<std::size_t>(in.logit_tokens[row]) * 64], in.logits + row * 61);
    if (spoil_logits)
      for (std::int64_t i = 0; i < in.logit_rows * 61; ++i) in.logits[i] = std::nanf("");
  }

  std::int64_t tokens_seen = 0;
  bool fail_next = false, fail_late = false, spoil_logits = false;

 private:
  static void multiply(const std::vector<float>& matrix, std::size_t rows, const float* x, float* y) {
    for (std::size_t row = 0; row < rows; ++row) {
      float sum = 0.0f;
      for (std::size_t i = 0; i < 64; ++i) sum += matrix[row * 64 + i] * x[i];
      y[row] = sum;
    }
  }

  models::ModelConfig config_;
  std::vector<float> embedding_, x_, q_now_, k_now_, v_now_;
  std::vector<std::vector<float>> q_, k_, v_;
};

inline std::vector<std::int32_t> random_tokens(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>(random() % 61));
  return out;
}

// Σ over the group of softmax over pages of q · mean(k): the plainest flow there is.
inline ir::Program centroid_flow(std::int64_t budget, std::int64_t page_size = 4) {
  ir::Program flow;
  flow.name = "centroid";
  flow.config.page_size = page_size;
  flow.config.budget = budget;
  flow.config.recent = 1;
  auto op = [&](const char* name, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(flow, ir::op_named(name), std::move(inputs), std::move(attributes), {"tiny.h", 1});
  };
  ir::declare_summary(flow, "centroid", op("mean", {op("page_k", {})}, {{"axis", "token"}}), {"tiny.h", 1});
  ir::ValueId q = op("q", {});
  ir::ValueId logit = op("dot", {q, op("summary", {}, {{"name", "centroid"}})}, {{"over", "dim"}});
  flow.score = op("sum", {op("softmax", {logit}, {{"axis", "page"}})}, {{"axis", "head"}});
  return flow;
}

// Centroid selection that prefers what the last step chose, and pages that have kept their share over the steps: state
// of pages and of the sequence.
inline ir::Program stateful_flow(std::int64_t budget, std::int64_t page_size = 4) {
  ir::Program flow = centroid_flow(budget, page_size);
  flow.name = "stateful";
  auto op = [&](const char* name, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(flow, ir::op_named(name), std::move(inputs), std::move(attributes), {"tiny.h", 2});
  };
  auto number = [&](double value) { return op("constant", {}, {{"value", value}}); };
  const ir::ValueId held = op("page_state", {}, {{"name", "held"}});
  const ir::ValueId level = op("seq_state", {}, {{"name", "level"}, {"initial", 0.5}, {"axes", "head"}});
  const ir::ValueId most = op("max", {op("page_index", {})}, {{"axis", "page"}});
  const ir::ValueId next = op("sub", {number(1.0), op("mul", {level, number(0.75)})});
  const ir::ValueId weighed =
      op("mul", {flow.score, op("add", {number(1.0), op("mul", {held, op("sum", {level}, {{"axis", "head"}})})})});
  flow.selection = op("top_k", {weighed, op("seq_left", {})});
  flow.score = -1;
  const ir::ValueId kept =
      op("where", {flow.selection, op("div", {op("page_index", {}), op("add", {most, number(1.0)})}),
                   op("mul", {held, number(0.5)})});
  ir::declare_state(flow, "held", kept, {"tiny.h", 2});
  ir::declare_state(flow, "level", next, {"tiny.h", 2});
  return flow;
}

struct Answer {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  FinishReason finished = FinishReason::none;

  bool operator==(const Answer&) const = default;
};
using Answers = std::map<std::int64_t, Answer>;

inline void take(Answers& answers, const std::vector<Event>& events) {
  for (const Event& event : events) {
    Answer& answer = answers[event.request];
    if (event.token >= 0) {
      answer.tokens.push_back(event.token);
      answer.logprobs.push_back(event.logprob);
    }
    if (event.finished != FinishReason::none) answer.finished = event.finished;
  }
}

inline Answers run_all(Engine& engine) {
  Answers answers;
  while (!engine.idle()) {
    take(answers, engine.step());
    engine.check_integrity();
  }
  return answers;
}

inline EngineConfig tiny_config() {
  return {.page_size = 4, .pages = 512, .memory_bytes = 64 << 20, .max_batch = 8, .chunk_tokens = 32, .threads = 1};
}

// One request alone in a fresh engine: the undisturbed run.
inline Answer alone(const Request& request, const ir::Program* flow = nullptr, EngineConfig config = tiny_config()) {
  Engine engine(std::make_shared<TinyModel>(), config);
  Request copy = request;
  if (flow != nullptr) copy.flow = engine.load_flow(*flow);
  std::int64_t id = engine.submit(copy);
  return run_all(engine)[id];
}

}  // namespace vortex::engine
