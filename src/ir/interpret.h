// The slow double-precision interpreter: the definition of the IR that every backend is tested against.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/op.h"

namespace vortex::ir {

struct Environment {
  Geometry geometry;
  std::int64_t tokens = 0, step = 0, layer = 0, layers = 1;  // seq.tokens, seq.step, layer.index, layer.count
  double scale = 1.0;                                        // layer.scale: the softmax scale folded into q
  std::int64_t left = 0;                                     // seq.left
  std::int64_t kv_head = 0;                                  // for parameters that differ among KV heads
  // Not zero: every value is moved by about a millionth and rounded to float32, each seed in its own way. No
  // definition, but what a program feels of rounding.
  std::uint32_t rounding_seed = 0;
  double* largest = nullptr;  // given: grows to the size of the largest value on the way, infinite where one is none
};

// States by name: those of pages [candidates, axes...], those of the sequence [axes...]. A state that is missing is as
// it is before the first step.
using States = std::map<std::string, Tensor>;

// What a source may read.
struct SourceContext {
  const Environment& environment;
  const Tensor* q = nullptr;                                 // [group, head_dim]
  const Tensor* k = nullptr;                                 // [page_size, head_dim]
  const Tensor* v = nullptr;                                 // [page_size, value channels]
  const std::map<std::string, Tensor>* summaries = nullptr;  // [candidates, axes...]
  const std::vector<std::int64_t>* page_indices = nullptr;
  const States* states = nullptr;
  const std::map<std::int64_t, std::vector<std::int64_t>>* groups =
      nullptr;  // pages of a group → indices of the groups
  const Weights* weights = nullptr;
};

// The groups of n pages that a flow scores: those whose pages are all full and of which at least one is a candidate.
// Groups are aligned to the start of the sequence and may hold pinned pages.
struct GroupRange {
  std::int64_t first = 0, count = 0;
};
GroupRange groups_of(std::int64_t pages, std::int64_t first_candidate, std::int64_t candidates,
                     std::int64_t full_pages);

// Summaries of one full page. k: [page_size, head_dim], v: [page_size, value channels], as
// attention sees them. Those of a group of n pages: the same of n · page_size tokens, with group = n.
std::map<std::string, Tensor> interpret_summaries(const Program&, const Environment&, const Tensor& k, const Tensor& v,
                                                  std::int64_t group = 1);

// Scores of the candidates of one row: q [group, head_dim]; summaries [candidates, axes of the summary...], those of
// groups [groups_of(...), axes...];
// page_indices: logical index of each candidate. One score a candidate; NaN where a score is confined to a set that
// does not hold it.
std::vector<double> interpret_scores(const Program&, const Environment&, const Tensor& q,
                                     const std::map<std::string, Tensor>& summaries,
                                     const std::vector<std::int64_t>& page_indices, const States& = {});

// Which candidates are chosen, 1 or 0 each: those of the program's set, or the best by score. environment.tokens,
// step, layer and layers say how many the budget leaves.
std::vector<double> interpret_chosen(const Program&, const Environment&, const Tensor& q,
                                     const std::map<std::string, Tensor>& summaries,
                                     const std::vector<std::int64_t>& page_indices, const States& = {});
// What the states are in the next step, all of them; likewise of the sequence when there are no candidates.
States interpret_states(const Program&, const Environment&, const Tensor& q,
                        const std::map<std::string, Tensor>& summaries, const std::vector<std::int64_t>& page_indices,
                        const States&);
// What the candidates that are not chosen contribute together: a logit [group], −inf when nothing is left, and a value
// [group, value_dim].
struct Rest {
  std::vector<double> logit, value;
};
Rest interpret_rest(const Program&, const Environment&, const Tensor& q, const std::map<std::string, Tensor>& summaries,
                    const std::vector<std::int64_t>& page_indices, const States& = {});

// The ascending page list of a row of `pages` pages: pinned ones and the best candidates by (score, lower index first),
// budget_of in all. NaN ranks below every number. A flow without scores (`scores` empty) attends the pinned pages only,
// unless its budget covers all.
std::vector<std::int64_t> interpret_selection(const FlowConfig&, std::int64_t pages,
                                              const std::vector<std::int64_t>& candidates,
                                              const std::vector<double>& scores);
// The logical pages a flow scores: all but the pinned ones.
std::vector<std::int64_t> candidates_of(const FlowConfig&, std::int64_t pages);

}  // namespace vortex::ir
