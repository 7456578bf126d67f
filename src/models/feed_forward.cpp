#include "models/feed_forward.h"

namespace vortex::models {

FeedForward::FeedForward(const ModelConfig& config, WeightReader& read, const std::string& prefix, std::int64_t hidden)
    : width_(config.width), hidden_(hidden) {
  gate_up_ = read.linear({{prefix + "gate_proj", hidden_}, {prefix + "up_proj", hidden_}}, width_);
  down_ = read.linear({{prefix + "down_proj", width_}}, hidden_);
}

void FeedForward::run(const BlockStep& step, const float* x, float* out) const { run_rows(step, x, step.tokens, out); }

void FeedForward::run_rows(const BlockStep& step, const float* x, std::int64_t rows, float* out) const {
  float* gate_up = step.workspace.wide.get(rows * 2 * hidden_);  // [rows, 2 · hidden]
  float* hidden = step.workspace.hidden.get(rows * hidden_);     // [rows, hidden]
  gate_up_.run(x, width_, gate_up, 2 * hidden_, rows, step.pool);
  kernels::swiglu(gate_up, hidden, rows, hidden_, step.pool);
  down_.run(hidden, hidden_, out, width_, rows, step.pool);
}

}  // namespace vortex::models
