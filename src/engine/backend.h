// Where steps run, as the runner sees it: keeps KV and summaries by physical page, compiles flows, runs a step. It
// knows neither sequences nor who may use which page. One implementation a device: cpu_backend.h, cuda/cuda_backend.h.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "attention/layer.h"
#include "attention/row_memory.h"
#include "attention/types.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "engine/engine.h"
#include "engine/statistics.h"
#include "kv/pool.h"

namespace vortex::engine {

// The token chosen of a row of logits and its log-probability; token −1: the logits are not numbers.
struct Chosen {
  std::int32_t token = -1;
  float logprob = 0.0f;
};

// Page lists of decode rows, [slice · layers · kv_heads]; an empty one: the row attended every page.
using PageLists = std::vector<std::vector<std::int32_t>>;

// How a backend chooses the token of a row: as SamplingParams say, with a number for the draw. temperature 0: the
// likeliest.
struct Draw {
  float temperature = 0.0f, top_p = 1.0f, min_p = 0.0f;
  std::int32_t top_k = 0;
  double uniform = 0.0;  // in [0, 1)
};

struct BackendStep {
  std::span<const attention::Slice> slices;
  std::span<const std::int32_t> token_ids, positions;  // [tokens] of all slices
  std::span<const std::int32_t> logit_tokens;          // rows of the step whose logits are wanted, ascending
  std::span<const std::uint8_t> token_alone;           // [logit_tokens] 1: a token is wanted instead, as draws say
  std::span<const Draw> draws = {};  // [logit_tokens], of rows with token_alone; empty: likeliest ones
  // [slices] −1, or the row of logit_tokens of the step launched before whose chosen token is the slice's, in place of
  // its id; empty: all −1.
  std::span<const std::int32_t> follows = {};
  std::span<const std::int32_t> fed = {};  // [steps, slices] inputs of run_ahead; empty: its own tokens
  PageLists* lists = nullptr;              // null: not wanted
  StepStatistics* statistics = nullptr;    // added to
};

struct BackendResult {
  std::span<float> logits;  // [logit_tokens, vocabulary]; rows of `chosen` may hold anything
  std::span<const Chosen>
      chosen;  // [logit_tokens] where the backend chooses, read for rows with token_alone; else empty
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::int64_t available_bytes() const = 0;  // of memory, when the config names none
  virtual std::int64_t page_bytes() const = 0;       // KV of a physical page over all layers
  // Compiles flow `number`, whose config is checked; returns the bytes of its summaries for a physical page. UserError
  // says what the flow uses that is not there. Flows of some of its layers have the numbers behind it, which are free.
  virtual std::int64_t compile(int number, const ir::Program&) = 0;
  // What compile() would do that takes long, into the cache on disk, in a thread of the caller's. The same UserError.
  virtual void build_ahead(const ir::Program&) const {}
  virtual void forget(int number) = 0;
  // What rows of a compiled flow carry from step to step. Those that carry nothing need not say so.
  virtual attention::CarriedLayout carried(int) const { return {}; }

  // Memory for KV, and for the summaries of flows that are compiled. MachineError when it is not there.
  virtual void allocate(std::int64_t pages) = 0;
  virtual void allocate_summaries(int number) = 0;
  virtual std::int64_t kv_bytes() const = 0;
  virtual std::int64_t summary_bytes() const = 0;

  virtual void invalidate(kv::Page) = 0;  // its summaries are not those of what it will hold
  virtual void copy(kv::Page from, kv::Page to) = 0;
  // KV in host memory, [layers, pages, bytes of a page in a layer].
  virtual void save(std::span<const kv::Page>, std::byte* to) const = 0;
  virtual void restore(std::span<const kv::Page>, const std::byte* from) = 0;
  virtual void fill(std::span<const kv::Page>, std::uint64_t seed) = 0;  // random KV, see Workbench::fill

  // What it returns is valid until the next step.
  virtual BackendResult run(const BackendStep&) = 0;
  // The same in two parts, where the host need not wait between them: at most two steps are launched and not finished,
  // and the first of two has token_alone in all rows. What steps are made of may change once they are launched.
  virtual bool overlaps() const { return false; }
  virtual void launch(const BackendStep&);
  virtual BackendResult finish(StepStatistics*);  // the earliest; null: not wanted

  // Several steps without the host between them: each slice's likeliest token is its next input, or what is fed. A
  // slice is one token, its pages hold all it will write, all slices are of one flow; logits and lists are not asked
  // for. The likeliest tokens come back.
  virtual bool runs_ahead() const { return false; }
  // What the kernels of a decode step take: of slices that run_ahead would take, each of one token. UserError where
  // steps are no kernels.
  virtual StepProfile profile(const BackendStep&);
  virtual void run_ahead(const BackendStep&, std::int64_t steps, std::int32_t* tokens);  // [steps, slices], out
};

// What the model runs on decides. UserError says what the place does not have: kv_type, geometry, batch.
std::unique_ptr<Backend> make_backend(std::shared_ptr<models::Model>, const EngineConfig&, const attention::Geometry&,
                                      ThreadPool&);

// UserError in the device's own words when a flow uses what it does not have. Opens no device.
void require_served(const ir::Program&, device::Kind, const attention::Geometry&);

}  // namespace vortex::engine
