// A flow written by hand behind CpuFlow: pages are scored by q · mean(k), softmaxed over pages for each query head and
// summed over heads. It stands in for compiled flows, so that these tests need no compiler.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "codegen/cpu/flow.h"

namespace vortex::attention {

class MeanFlow final : public codegen::CpuFlow {
 public:
  MeanFlow(std::int64_t page_size, std::int64_t head_dim, std::int64_t group, bool has_score = true)
      : page_size_(page_size), head_dim_(head_dim), group_(group) {
    plan_.geometry.page_size = page_size;
    plan_.geometry.head_dim = head_dim;
    plan_.geometry.group = group;
    plan_.program.score = has_score ? 0 : -1;
    rows_ = ir::RowRule(plan_.program);
    if (has_score) fields_ = {{"mean", head_dim, ir::DType::bf16}, {"weight", 1, ir::DType::f32}};
  }

  const compiler::Plan& plan() const override { return plan_; }
  const ir::RowRule& rows() const override { return rows_; }
  const std::vector<codegen::FieldLayout>& fields() const override { return fields_; }

  void summarize(const BFloat16* const* k, const BFloat16* const* v, void* const* outputs, float*, std::int64_t,
                 std::int64_t, std::int64_t) const override {
    BFloat16* mean = static_cast<BFloat16*>(outputs[0]);
    for (std::int64_t d = 0; d < head_dim_; ++d) {
      float sum = 0;
      for (std::int64_t t = 0; t < page_size_; ++t) sum += to_float(k[t][d]);
      mean[d] = to_bfloat16(sum / static_cast<float>(page_size_));
    }
    float weight = 0;
    for (std::int64_t t = 0; t < page_size_; ++t) weight += std::fabs(to_float(v[t][0]));
    *static_cast<float*>(outputs[1]) = 1.0f + 1e-3f * weight;
  }
  std::int64_t scratch_floats() const override { return 1; }

  int page_stages() const override { return 2; }
  std::int64_t workspace_floats(std::int64_t candidates) const override { return group_ * (candidates + 2); }
  void run_row(const codegen::RowArguments&, float*) const override {}
  void run_page(int stage, std::span<const codegen::RowArguments> rows, std::int64_t begin, std::int64_t end,
                float*) const override {
    for (const codegen::RowArguments& row : rows) score_pages(stage, row, begin, end);
  }
  void score_pages(int stage, const codegen::RowArguments& row, std::int64_t begin, std::int64_t end) const {
    float* logits = row.workspace + 2 * group_;
    for (std::int64_t i = begin; i < end; ++i) {
      if (stage == 0) {
        const BFloat16* mean =
            static_cast<const BFloat16*>(row.fields[0].base) + row.summary_page[i] * row.fields[0].page_stride;
        for (std::int64_t g = 0; g < group_; ++g) {
          float sum = 0;
          for (std::int64_t d = 0; d < head_dim_; ++d) sum += row.q[g * head_dim_ + d] * to_float(mean[d]);
          logits[g * row.candidates + i] = sum;
        }
      } else {
        const float* weight =
            static_cast<const float*>(row.fields[1].base) + row.summary_page[i] * row.fields[1].page_stride;
        float score = 0;
        for (std::int64_t g = 0; g < group_; ++g)
          score += std::exp(logits[g * row.candidates + i] - row.workspace[2 * g]) / row.workspace[2 * g + 1];
        row.scores[i] = score * *weight;
      }
    }
  }
  void run_finish(int, const codegen::RowArguments& row, float*) const override {
    const float* logits = row.workspace + 2 * group_;
    for (std::int64_t g = 0; g < group_; ++g) {
      float largest = -INFINITY, total = 0;
      for (std::int64_t i = 0; i < row.candidates; ++i) largest = std::max(largest, logits[g * row.candidates + i]);
      for (std::int64_t i = 0; i < row.candidates; ++i) total += std::exp(logits[g * row.candidates + i] - largest);
      row.workspace[2 * g] = largest;
      row.workspace[2 * g + 1] = total;
    }
  }

 private:
  std::int64_t page_size_, head_dim_, group_;
  compiler::Plan plan_;
  ir::RowRule rows_{ir::Program{}};
  std::vector<codegen::FieldLayout> fields_;
};

}  // namespace vortex::attention
