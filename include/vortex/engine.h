// The engine: requests in, tokens out. Continuous batching over a paged KV pool, with flows that decide which pages a
// decode step attends. Calls from several threads take turns; its own pool of threads does the arithmetic. It reads no
// files and knows no text.
#pragma once

#include <vortex/export.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace vortex::ir {
struct Program;
}
namespace vortex::models {
class Model;
}

namespace vortex::attention {
enum class KvType : std::uint8_t;  // bfloat16, int8, fp8
// UserError names the types there are.
VORTEX_API KvType kv_type_of(const std::string& name);
VORTEX_API const char* name_of(KvType);
}  // namespace vortex::attention

namespace vortex::engine {

struct VORTEX_API EngineConfig {
  std::int64_t page_size = 16;      // tokens of a physical page; a flow's page_size is a multiple of it
  std::int64_t pages = 0;           // physical pages of the pool; 0: from memory_bytes
  std::int64_t memory_bytes = 0;    // KV and summaries together; 0: four fifths of the memory that is free at the start
  std::int64_t max_batch = 16;      // sequences that run at once
  std::int64_t chunk_tokens = 512;  // prompt tokens a step works on, over all requests
  std::int64_t max_context = 0;     // tokens a request may hold, prompt and answer; 0: what the model was made for
  std::int32_t threads = 0;         // 0: one for each physical core
  bool prefix_cache = true;         // keep the KV of finished prompts for requests that begin alike
  bool deterministic = false;       // what a request is answered does not depend on its company; the CPU's never does
  // A device is given a step before the host has read the tokens of the one before, where all of these are chosen
  // there.
  bool overlap = true;
  std::uint64_t seed = 0;       // mixed into every request's seed
  attention::KvType kv_type{};  // how K and V are stored: bf16, or int8 or fp8 with a scale a token and KV head

  // Throws UserError naming the setting.
  void validate() const;
};

// How a token is chosen, in this order. The model's logits z are changed:
//   z += logit_bias[token]; -inf bans it
//   z = z > 0 ? z / repetition_penalty : z * repetition_penalty, for every token of the prompt and the answer
//   z -= presence_penalty + frequency_penalty * (times it was said), for every token of the answer
// (a finite z stays finite). temperature 0 takes the likeliest token then, the lowest among equals. Otherwise tokens
// are drawn from p = softmax(z / temperature), of which these remain, each cut taken over what the ones before it left:
//   top_k      the k likeliest (0: all); ties go to the lower token
//   typical_p  the fewest, nearest first to the entropy of what is left (|-log p - H|), that reach this probability
//   top_p      the fewest, likeliest first, that reach this probability
//   min_p      those at least this share of the likeliest
// The draw depends on the seeds, the position and the request's own tokens alone, not on what else runs.
struct VORTEX_API SamplingParams {
  float temperature = 0.0f;
  std::int32_t top_k = 0;
  float typical_p = 1.0f;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::vector<std::pair<std::int32_t, float>> logit_bias = {};  // (token, bias)
  std::uint64_t seed = 0;
  std::int32_t top_logprobs = 0;  // report so many of the likeliest tokens beside the chosen one

  // Throws UserError naming the setting.
  void validate(std::int64_t vocabulary) const;
  // The likeliest token by the model's own logits, and nothing beside it is asked for.
  bool takes_likeliest() const;
  // A draw from the model's own logits, cut by top_k, top_p and min_p alone, and nothing beside it is asked for.
  bool draws_plainly() const;
};

inline constexpr int kFullAttention = -1;  // in place of a flow id

struct Request {
  std::vector<std::int32_t> prompt;
  std::int64_t max_new_tokens = 16;
  SamplingParams sampling;
  std::vector<std::int32_t> stop_tokens;  // end the answer; the stop token itself is reported
  int flow = kFullAttention;              // decode through this flow; prefill is dense
};

enum class FinishReason : std::uint8_t {
  none,     // goes on
  stop,     // a stop token
  length,   // max_new_tokens
  context,  // no room left in max_context
  aborted,  // abort(); carries no token
  failed,   // the model gave logits that are not numbers; carries no token
  banned,   // logit_bias leaves no token to choose; carries none
};
VORTEX_API const char* name_of(FinishReason);

struct TokenLogprob {
  std::int32_t token = -1;
  float logprob = 0.0f;

  bool operator==(const TokenLogprob&) const = default;
};

// Log-probabilities are those of softmax(the model's logits), before anything changed them.
struct Event {
  std::int64_t request = 0;
  std::int32_t token = -1;  // -1: none
  float logprob = 0.0f;
  FinishReason finished = FinishReason::none;
  std::vector<TokenLogprob> top = {};  // the likeliest tokens, as many as top_logprobs asks for, the likeliest first
};

struct Statistics {
  std::int64_t steps = 0, prefill_tokens = 0, decode_tokens = 0;
  std::int64_t prefix_hit_tokens = 0;  // prompt tokens whose KV was found instead of computed
  std::int64_t preemptions = 0, restores = 0;
  std::int64_t evicted_pages = 0, copied_pages = 0;
  std::int64_t rebuilt_summaries = 0;  // pages summarized again because a flow met them first in the cache
  // Tokens chosen where the model runs, and those whose logits came to the host for it.
  std::int64_t device_choices = 0, host_choices = 0;
  std::int64_t waiting = 0, running = 0, preempted = 0;
  std::int64_t pages = 0, free_pages = 0, cached_pages = 0;
  std::int64_t kv_bytes = 0, summary_bytes = 0, host_bytes = 0;
  std::int64_t carried_bytes = 0;         // what flows of running sequences carry from step to step
  double seconds = 0, model_seconds = 0;  // in step(), and in the model's part of it
};

class VORTEX_API Engine {
 public:
  Engine(std::shared_ptr<models::Model>, const EngineConfig&);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Compiles a flow for the model's geometry and makes its summary arenas. The same flow with the same config has one
  // id. UserError when its page_size does not fit the engine's, MachineError when its arenas do not fit the memory.
  int load_flow(const ir::Program&);

  // UserError says why a request is refused: empty or too long a prompt, a token outside the vocabulary, a pool that
  // cannot hold it even alone, nothing to generate, unknown flow.
  std::int64_t submit(Request);
  // A second request that goes on from where `request` is now, sharing its pages. UserError unless it is running. Waits
  // for a step that runs; its tokens are reported by the next one.
  std::int64_t fork(std::int64_t request, const SamplingParams&);
  // False when there is no such unfinished request. Its pages are free at once; the next step reports it.
  bool abort(std::int64_t request);

  // One step over all running requests. The events stay valid until the next call. With `overlap` the step after it
  // runs by then: it is the one after that which a request joins.
  const std::vector<Event>& step();
  bool idle() const;  // nothing waits, runs, or has an event to report

  const EngineConfig& config() const;
  Statistics statistics() const;
  // Recomputes every count and link of pool, tables and tree; throws InternalError when one is wrong.
  void check_integrity() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vortex::engine
