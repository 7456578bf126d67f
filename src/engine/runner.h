// Runs steps: owns the page pool, the numbers of the loaded flows and the backend that keeps KV and summaries, turns
// lanes into slices and gives them to it. It decides nothing: which sequences run, and what becomes of their logits, is
// its caller's.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/arithmetic.h"
#include "base/thread_pool.h"
#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/statistics.h"
#include "ir/config.h"
#include "kv/table.h"

namespace vortex::engine {

// What a step does for one sequence.
struct Lane {
  const kv::PageTable* table = nullptr;  // has room for context + tokens.size() tokens
  std::span<const std::int32_t> tokens;  // that the step works on
  std::int64_t context = 0;              // tokens whose KV is stored
  int flow = kFullAttention;
  bool sparse = false;                     // decode through the flow
  bool prompt = false;                     // tokens of a prompt
  std::int64_t step = 0;                   // decode steps made before
  attention::RowMemory* memory = nullptr;  // of the sequence; has room for what its flow carries from step to step
  bool wants_logits = false;               // those that follow its last token
  bool token_alone = false;                // a token is enough, if the backend chooses it
  Draw draw = {};                          // how it does
  std::int32_t follows = -1;  // its token is what this row of the step before chose; −1: it is in `tokens`
};

// The KV of a sequence in host memory, outside the pool.
struct SavedKv {
  std::shared_ptr<const std::vector<std::byte>> data;  // [layers, pages, bytes of a page]; null: nothing is saved
  std::int64_t tokens = 0;                             // whose KV it holds
  std::int64_t dense_pages = 0;
  kv::Origin origin = kv::kDense;

  std::int64_t bytes() const { return data ? static_cast<std::int64_t>(data->size()) : 0; }
};

class Runner {
 public:
  Runner(std::shared_ptr<models::Model>, const EngineConfig&);

  // Sizes the pool and takes its memory, arenas included; once, before the first page is asked for. MachineError or
  // UserError when it does not fit.
  void start();

  int load_flow(const ir::Program&);
  // What load_flow would compile on a device, into its cache; beside anything else that the runner does.
  void build_ahead(const ir::Program& program) const { backend_->build_ahead(program); }
  void unload_flow(int flow);
  void check_flow(int flow, const std::string& where) const;  // UserError unless it is loaded, or kFullAttention
  kv::Origin origin_of(int flow) const { return flow + 1; }   // kFullAttention: dense

  kv::PagePool& pool() { return *pool_; }
  const kv::PagePool& pool() const { return *pool_; }
  ThreadPool& threads() { return threads_; }
  models::Model& model() const { return *model_; }
  const attention::Geometry& geometry() const { return geometry_; }
  const EngineConfig& config() const { return config_; }  // with max_context and, once started, pages filled in
  std::int64_t pages_of(std::int64_t tokens) const { return ceil_div(tokens, config_.page_size); }
  std::int64_t flow_page_size(int flow) const;                   // of the flow's pages, or of the physical ones
  std::int64_t flow_pages(int flow, std::int64_t tokens) const;  // such pages that hold them
  std::int64_t kv_page_bytes() const { return backend_->page_bytes(); }
  std::int64_t kv_bytes() const { return backend_->kv_bytes(); }
  std::int64_t summary_bytes() const { return backend_->summary_bytes(); }

  // What a sequence of so many tokens carries from step to step under a flow, and what is left for all of them.
  std::int64_t carried_bytes(int flow, std::int64_t tokens) const;
  std::int64_t room_for_carried() const { return memory_limit_ - kv_bytes() - summary_bytes(); }
  void reserve(int flow, attention::RowMemory&, std::int64_t tokens) const;
  void forget(int flow, attention::RowMemory&) const;

  // Table::append together with the copy of KV it asks for; true when there was one.
  bool append(kv::PageTable&, std::int64_t tokens, kv::Origin origin);
  SavedKv save(const kv::PageTable&, std::int64_t tokens) const;
  void restore(const SavedKv&, kv::PageTable& empty, std::int64_t room_tokens);
  void fill(const kv::PageTable&, std::uint64_t seed);  // random KV in all its pages

  // One step. Returns the logits [lanes that want them, vocabulary], valid until the next one.
  std::span<float> run(std::span<const Lane> lanes);
  // The same in two parts. Where the backend overlaps, a second step may be launched before the first is finished; of
  // the first all rows are token_alone, and lanes of the second may follow them.
  bool overlaps() const { return backend_->overlaps() && !recording_; }
  void launch(std::span<const Lane> lanes);
  std::span<float> finish();  // the earliest
  // The chosen token of each of those rows where the backend chooses by itself, read for lanes with token_alone; else
  // empty.
  std::span<const Chosen> chosen() const { return chosen_; }

  // `steps` greedy steps at once, where the backend can: tokens [steps, lanes]. Lanes hold one token each, their tables
  // room for all, and all are of one flow.
  bool runs_ahead() const { return backend_->runs_ahead() && !recording_; }
  // fed: [steps, lanes], see BackendStep.
  void run_ahead(std::span<const Lane> lanes, std::int64_t steps, std::span<const std::int32_t> fed,
                 std::int32_t* tokens);

  // A step of such lanes by kernels.
  StepProfile profile(std::span<const Lane> lanes);

  const StepStatistics& statistics() const { return statistics_; }
  void reset_statistics() { statistics_ = {}; }

  // Pages that decode rows attend are kept when asked for: [lane][layer][kv_head].
  void record_pages(bool on) { recording_ = on; }
  bool recorded() const { return !recorded_.empty(); }
  std::span<const std::int32_t> recorded(std::int64_t lane, std::int64_t layer, std::int64_t kv_head) const;

 private:
  using Clock = std::chrono::steady_clock;
  void put_lanes(std::span<const Lane> lanes, std::int64_t more);
  void add_seconds(Clock::time_point began);
  struct LoadedFlow {
    std::string key;  // canonical hash and config; "": unloaded
    ir::FlowConfig config;
    std::int64_t page_bytes = 0;  // of its summaries, for a physical page
    attention::CarriedLayout carried = {};
  };

  std::shared_ptr<models::Model> model_;
  EngineConfig config_;
  attention::Geometry geometry_;
  ThreadPool threads_;
  std::unique_ptr<Backend> backend_;
  std::int64_t memory_limit_;

  std::unique_ptr<kv::PagePool> pool_;
  std::vector<LoadedFlow> flows_;

  std::vector<attention::Slice> slices_;
  std::vector<std::int32_t> token_ids_, positions_, logit_tokens_;
  std::vector<std::uint8_t> token_alone_;
  std::vector<Draw> draws_;
  std::vector<std::int32_t> follows_;
  BackendResult result_;  // of a backend that does not overlap
  std::span<const Chosen> chosen_;
  bool recording_ = false;
  PageLists recorded_;  // [lane · layers · kv_heads]
  StepStatistics statistics_;
};

}  // namespace vortex::engine
