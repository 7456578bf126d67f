// Measuring without a scheduler, on the engine's own runner and page pool: prefill once, fork per arm, decode each arm.
// Nothing here is queued, cached or preempted; a pool that is too small is an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/statistics.h"

namespace vortex::engine {

class Workbench {
 public:
  using Sequence = std::int64_t;

  Workbench(std::shared_ptr<models::Model>, const EngineConfig&);
  ~Workbench();
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  int load_flow(const ir::Program&);
  // Compiles the flow's kernels into the cache on disk, so that load_flow finds them: takes seconds on a device,
  // nothing on the CPU. The one call that may be made beside others. UserError as load_flow's.
  void build_ahead(const ir::Program&) const;
  // Frees the flow's arenas; its sequences must have been released. Ids of other flows stay.
  void unload_flow(int flow);

  // A new full-attention sequence holding the KV of `tokens`. last_logits: [vocabulary] or null.
  Sequence prefill(std::span<const std::int32_t> tokens, float* last_logits = nullptr);
  // A sequence of `tokens` random non-zero KV entries, for speed runs: distinct by seed, physical pages shuffled, keys
  // drawn so that attention is neither flat nor a single peak.
  Sequence fill(std::int64_t tokens, std::uint64_t seed);
  // Shares the pages of `sequence`; the copy decodes through `flow`. UserError when `sequence` has decoded through
  // another.
  Sequence fork(Sequence, int flow);
  void release(Sequence);
  // The prefilled KV of a sequence as bytes, [layers, pages, bytes of a page]; UserError when a flow made some of it.
  // Bytes of one model, page size and KV type go back into any workbench of these.
  std::vector<std::byte> save(Sequence) const;
  // A new sequence of `tokens` tokens whose KV was saved. UserError when the bytes are not as many as they need.
  Sequence restore(std::span<const std::byte> saved, std::int64_t tokens);
  // Forgets the tokens from `tokens` on, the decode steps that made them, and what its flow carries from step to step.
  void truncate(Sequence, std::int64_t tokens);
  std::int64_t length(Sequence) const;

  // Appends tokens[i] to sequences[i] and returns the logits [n, vocabulary] that follow, valid until the next call.
  std::span<const float> decode(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens);
  // `steps` greedy steps: feeds tokens[i], then the likeliest token each time. Returns the tokens chosen [steps, n].
  // Where the backend chooses by itself, the logits stay there.
  std::vector<std::int32_t> greedy(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens,
                                   std::int64_t steps);
  // The same steps, fed `tokens` [steps, n] instead of what they choose. said: false where nobody asks what they would
  // say; nothing is returned then, and a backend that does not run ahead makes no logits.
  std::vector<std::int32_t> feed(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens,
                                 bool said = true);

  // What the kernels of such a step take, of sequences of one flow; it is made, several times over, and its token
  // stays. UserError on the CPU.
  StepProfile profile(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens);

  // Keeps, from the next step on, which pages each decode row attends in each layer.
  void record_pages(bool);
  // The ascending flow pages that `sequence` attended in its last decode; all of them under full attention. UserError
  // when that step was not recorded.
  std::vector<std::int32_t> page_list(Sequence, std::int64_t layer, std::int64_t kv_head) const;

  // Flow pages and tokens that `sequence` attended in its last decode, summed over layers and KV heads; likewise
  // recorded.
  struct Attended {
    std::int64_t pages = 0, tokens = 0;
  };
  Attended attended(Sequence) const;

  const EngineConfig& config() const;
  const models::Model& model() const;
  const StepStatistics& statistics() const;
  void reset_statistics();
  std::int64_t kv_bytes() const;
  std::int64_t summary_bytes() const;
  std::int64_t free_pages() const;
  void check_integrity() const;

 private:
  // first: inputs of the first step; fed: of all steps, [steps, n], or empty. Returns the likeliest tokens [steps, n].
  std::vector<std::int32_t> steps(std::span<const Sequence>, std::span<const std::int32_t> first,
                                  std::span<const std::int32_t> fed, std::int64_t steps);
  // Steps of sequences of one flow that the backend makes by itself; false: it does not.
  bool ahead(std::span<const Sequence>, std::span<const std::int32_t> first, std::span<const std::int32_t> fed,
             std::int64_t steps, std::int32_t* out);
  // profile: filled instead of logits.
  std::span<const float> step(std::span<const Sequence>, std::span<const std::int32_t> tokens, bool greedy,
                              StepProfile* profile = nullptr, bool wants_logits = true);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vortex::engine
