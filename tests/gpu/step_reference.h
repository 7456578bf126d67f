// The tuned step (fast_step.h) in double precision, made to follow its tokens and page lists: on the same bf16 weights
// and KV, rounding to bf16 where the step does (operands of linears, K, V, summaries) and nowhere else.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "gpu/fast_step.h"
#include "gpu/reference.h"
#include "ir/program.h"

namespace vortex::gpu_tests {

struct StepAgreement : Agreement {
  double error = 0, size = 0;  // sums of squares over all logits: of the difference, of the reference

  void join(const StepAgreement&);  // of another step, or of rows of this one
};

class StepReference {
 public:
  // program: the flow of all layers as it was written; none: full attention. Takes weights and KV as they are now.
  StepReference(FastStep&, const StepPool&, const std::optional<ir::Program>& program);

  // One step on those input tokens; lengths count them. `log` is what the step left.
  void follow(const std::vector<int>& tokens, const std::vector<int>& lengths, const FastStep::Log& log,
              StepAgreement&);

 private:
  using Rows = std::vector<double>;  // [sequences, width]
  struct Layer {
    std::vector<float> qkv, output, gate_up, down;  // [out, in]
  };
  Rows multiply(const std::vector<float>& weight, const Rows& x) const;
  Rows operand(const Rows& residual) const;  // times the norm's weights, as bf16
  std::vector<double> factors(const Rows& residual) const;
  Rows attend(int layer, const Rows& qkv, const std::vector<int>& lengths, const FastStep::Log&, StepAgreement&);
  void turn(double* head, int position, bool normed) const;
  std::vector<std::int64_t> pages_of(int layer, int sequence, int head, int length, const FastStep::Log&,
                                     std::string& failure) const;
  void judge(int layer, int sequence, int head, int length, const double* q, const std::vector<std::int64_t>& came,
             Agreement&) const;
  // Where channel 0 of that token's K lies; V is value_offset() further.
  std::size_t at(int layer, int sequence, int head, std::int64_t token) const;
  std::size_t value_offset() const { return static_cast<std::size_t>(page_size_ * model_.head_dim); }
  double kv(std::size_t index) const;

  StepModel model_;
  int sequences_, page_size_, table_stride_;
  std::int64_t pool_pages_;
  std::vector<int> tables_;
  const std::optional<ir::Program>& program_;
  int list_page_;  // tokens of a page of the lists
  double scale_;
  int step_ = 0;
  std::vector<Layer> layers_;
  std::vector<float> head_, norm_, head_norm_;
  std::vector<unsigned short> kv_;  // as the pool's
  mutable ThreadPool threads_;
};

}  // namespace vortex::gpu_tests
