// The engine's face: checks requests, and runs steps as schedule → run → postprocess.
#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include "base/check.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace vortex::engine {

namespace {
using Clock = std::chrono::steady_clock;
double since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }
}  // namespace

struct Engine::State {
  State(std::shared_ptr<models::Model> model, const EngineConfig& config)
      : runner(std::move(model), config), scheduler(runner) {
    for (int worker = 0; worker < runner.threads().threads(); ++worker)
      samplers.emplace_back(runner.model().config().vocabulary);
    auto batch = static_cast<std::size_t>(config.max_batch);
    lanes.reserve(batch);
    rows.reserve(batch);
    sampled.reserve(batch);
    events.reserve(2 * batch);
    ended.reserve(2 * batch);
  }

  void start() {
    if (started) return;
    runner.start();
    scheduler.start();
    started = true;
  }

  // What decides the draw of a sequence's next token.
  double uniform_for(const Sequence& it) const {
    const std::uint64_t seed = it.request.sampling.seed + runner.config().seed * 0x9e3779b97f4a7c15ULL;
    return uniform_of(seed, static_cast<std::uint64_t>(it.size()));
  }
  void run();
  void postprocess();

  std::mutex mutex;
  Runner runner;
  Scheduler scheduler;
  bool started = false;
  std::int64_t next_id = 0;
  std::vector<Sampler> samplers;  // one a thread
  std::vector<Lane> lanes;
  std::vector<std::size_t> rows;     // lanes that want logits
  std::vector<Sampled> sampled;      // [rows]
  std::vector<Event> events, ended;  // ended: outside a step, reported by the next one
  Statistics statistics;
};

void EngineConfig::validate() const {
  auto require = [](bool holds, const char* what, std::int64_t came) {
    if (!holds) throw UserError("engine", what, std::to_string(came), "give another value");
  };
  require(page_size >= 1 && page_size <= 256 && (page_size & (page_size - 1)) == 0,
          "a page_size that is a power of two up to 256", page_size);
  require(pages >= 0 && pages <= (1 << 30), "`pages` of at least 0 (0: from the memory)", pages);
  require(memory_bytes >= 0, "memory_bytes of at least 0 (0: from the machine)", memory_bytes);
  require(max_batch >= 1 && max_batch <= 4096, "a max_batch from 1 to 4096", max_batch);
  require(chunk_tokens >= 1 && chunk_tokens <= (1 << 20), "chunk_tokens of at least 1", chunk_tokens);
  require(max_context >= 0, "a max_context of at least 0 (0: the model's)", max_context);
  require(threads >= 0 && threads <= 1024, "`threads` from 0 (all cores) to 1024", threads);
}

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::context:
      return "context";
    case FinishReason::aborted:
      return "aborted";
    case FinishReason::failed:
      return "failed";
    case FinishReason::banned:
      return "banned";
  }
  return "unknown";
}

Engine::Engine(std::shared_ptr<models::Model> model, const EngineConfig& config) {
  config.validate();
  if (!model) throw UserError("engine", "a model", "none", "load one first");
  state_ = std::make_unique<State>(std::move(model), config);
}

Engine::~Engine() = default;

int Engine::load_flow(const ir::Program& program) {
  std::lock_guard lock(state_->mutex);
  return state_->runner.load_flow(program);
}

std::int64_t Engine::submit(Request request) {
  std::lock_guard lock(state_->mutex);
  Runner& runner = state_->runner;
  const std::string where = "request";
  std::int64_t vocabulary = runner.model().config().vocabulary, context = runner.config().max_context;
  request.sampling.validate(vocabulary);
  runner.check_flow(request.flow, where);
  auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (prompt == 0) throw UserError(where, "a prompt of at least one token", "an empty one", "give a prompt");
  if (request.max_new_tokens < 1)
    throw UserError(where, "max_new_tokens of at least 1", std::to_string(request.max_new_tokens), "ask for a token");
  if (prompt >= context)
    throw UserError(where, concat("a prompt shorter than the context of ", context, " tokens"),
                    concat(prompt, " tokens"), "shorten the prompt, or raise max_context if the model allows it");
  for (std::int32_t token : request.prompt)
    if (token < 0 || token >= vocabulary)
      throw UserError(where, concat("tokens below the vocabulary of ", vocabulary), concat("token ", token),
                      "encode the prompt with the model's own tokenizer");
  state_->start();
  std::int64_t most = prompt + std::min(request.max_new_tokens, context - prompt);
  if (runner.pages_of(most) > runner.config().pages)
    throw UserError(
        where, concat("a pool that holds the request alone: ", runner.pages_of(most), " pages for ", most, " tokens"),
        concat(runner.config().pages, " pages of ", runner.config().page_size, " tokens"),
        "lower max_new_tokens, shorten the prompt, or give the engine more pages");
  if (const std::int64_t carried = runner.carried_bytes(request.flow, most); carried > runner.room_for_carried())
    throw UserError(
        where, concat("memory for what the flow carries from step to step, ", carried, " bytes for ", most, " tokens"),
        concat(runner.room_for_carried(), " bytes left"),
        "lower max_new_tokens, lower the engine's `pages`, or raise memory_bytes");
  auto it = std::make_unique<Sequence>(Sequence{.id = state_->next_id++,
                                                .request = std::move(request),
                                                .tokens = {},
                                                .table = kv::PageTable(runner.config().page_size, most),
                                                .saved = {},
                                                .memory = {}});
  it->tokens.reserve(static_cast<std::size_t>(most));
  it->tokens = it->request.prompt;
  state_->scheduler.add(std::move(it));
  return state_->next_id - 1;
}

std::int64_t Engine::fork(std::int64_t request, const SamplingParams& sampling) {
  std::lock_guard lock(state_->mutex);
  sampling.validate(state_->runner.model().config().vocabulary);
  Scheduler& scheduler = state_->scheduler;
  Sequence* from = scheduler.find(request);
  if (from == nullptr)
    throw UserError("fork", "a request that is not finished", concat("request ", request),
                    "fork it before its last token");
  bool shares = from->table.tokens() > 0 && !from->prefilling();
  SamplingParams own = sampling;  // before there are pages to lose
  std::unique_ptr<Sequence> it;
  if (shares || from->saved.data) {
    it = scheduler.fork(*from);
  } else {  // its prompt is not computed yet; the copy waits like any request
    it = std::make_unique<Sequence>(Sequence{
        .id = 0,
        .request = from->request,
        .tokens = {},
        .table = kv::PageTable(state_->runner.config().page_size, static_cast<std::int64_t>(from->tokens.capacity())),
        .saved = {},
        .memory = {}});
    it->tokens.reserve(from->tokens.capacity());
    it->tokens = from->request.prompt;
  }
  it->id = state_->next_id++;
  it->request.sampling = std::move(own);
  std::int64_t id = it->id;
  if (shares)
    scheduler.add_running(std::move(it));
  else
    scheduler.add(std::move(it));
  return id;
}

bool Engine::abort(std::int64_t request) {
  std::lock_guard lock(state_->mutex);
  Sequence* it = state_->scheduler.find(request);
  if (it == nullptr) return false;
  state_->scheduler.drop(*it);
  state_->ended.push_back({.request = request, .finished = FinishReason::aborted});
  return true;
}

const std::vector<Event>& Engine::step() {
  std::lock_guard lock(state_->mutex);
  auto began = Clock::now();
  bool works = false;
  try {
    works = !state_->scheduler.schedule().empty();
    if (works) state_->run();
  } catch (...) {
    state_->scheduler.undo();
    throw;
  }
  state_->events.assign(state_->ended.begin(), state_->ended.end());
  state_->ended.clear();
  if (works) {
    state_->postprocess();
    ++state_->statistics.steps;
  }
  if (state_->started && state_->scheduler.empty()) state_->scheduler.check_integrity();
  state_->statistics.seconds += since(began);
  return state_->events;
}

// The model over all lanes, and a token for each lane that has come to its end.
void Engine::State::run() {
  lanes.clear();
  rows.clear();
  for (const Scheduler::Work& work : scheduler.work()) {
    Sequence& it = *work.sequence;
    bool prefilling = it.prefilling();
    bool last = it.stored + work.tokens >= it.prompt();
    const SamplingParams& sampling = it.request.sampling;
    const bool draws = sampling.draws_plainly();
    lanes.push_back({.table = &it.table,
                     .tokens = std::span(it.tokens).subspan(static_cast<std::size_t>(it.stored),
                                                            static_cast<std::size_t>(work.tokens)),
                     .context = it.stored,
                     .flow = it.request.flow,
                     .sparse = !prefilling && it.request.flow != kFullAttention,
                     .prompt = prefilling,
                     .step = it.decode_steps,
                     .memory = &it.memory,
                     .wants_logits = last,
                     .token_alone = draws || sampling.takes_likeliest(),
                     .draw = draws ? Draw{.temperature = sampling.temperature,
                                          .top_p = sampling.top_p,
                                          .min_p = sampling.min_p,
                                          .top_k = sampling.top_k,
                                          .uniform = uniform_for(it)}
                                   : Draw{}});
    if (last) rows.push_back(lanes.size() - 1);
    (prefilling ? statistics.prefill_tokens : statistics.decode_tokens) += work.tokens;
  }
  auto began = Clock::now();
  std::span<const float> logits = runner.run(lanes);
  statistics.model_seconds += since(began);
  auto vocabulary = static_cast<std::size_t>(runner.model().config().vocabulary);
  sampled.resize(rows.size());
  const std::span<const Chosen> chosen = runner.chosen();
  const auto chooses = [&](std::size_t at) { return !chosen.empty() && lanes[rows[at]].token_alone; };
  for (std::size_t at = 0; at < rows.size(); ++at)
    ++(chooses(at) ? statistics.device_choices : statistics.host_choices);
  runner.threads().for_each(static_cast<std::int64_t>(rows.size()), [&](std::int64_t index, int worker) {
    auto at = static_cast<std::size_t>(index);
    if (chooses(at)) {
      sampled[at] = {.token = chosen[at].token, .logprob = chosen[at].logprob};
      return;
    }
    const Sequence& it = *scheduler.work()[rows[at]].sequence;
    sampled[at] = samplers[static_cast<std::size_t>(worker)].sample(
        logits.subspan(at * vocabulary, vocabulary), it.request.sampling, {.tokens = it.tokens, .prompt = it.prompt()},
        uniform_for(it));
  });
}

// What became of each sequence: KV stored, a token more, or the end.
void Engine::State::postprocess() {
  std::size_t row = 0;
  for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
    const Scheduler::Work& work = scheduler.work()[lane];
    Sequence& it = *work.sequence;
    bool prefilled = it.prefilling();
    it.stored += work.tokens;
    if (!prefilled) ++it.decode_steps;
    if (!lanes[lane].wants_logits) continue;
    if (prefilled) scheduler.remember(it);
    Sampled& chosen = sampled[row++];
    Event event{.request = it.id, .token = chosen.token, .logprob = chosen.logprob, .top = std::move(chosen.top)};
    if (event.token < 0) {
      event.finished = chosen.banned ? FinishReason::banned : FinishReason::failed;
    } else {
      it.tokens.push_back(event.token);
      std::int64_t made = it.size() - it.prompt();
      if (std::ranges::find(it.request.stop_tokens, event.token) != it.request.stop_tokens.end())
        event.finished = FinishReason::stop;
      else if (made >= it.request.max_new_tokens)
        event.finished = FinishReason::length;
      else if (it.size() >= runner.config().max_context)
        event.finished = FinishReason::context;
    }
    if (event.token < 0)
      scheduler.drop(it);
    else if (event.finished != FinishReason::none)
      scheduler.finish(it);
    events.push_back(std::move(event));
  }
}

bool Engine::idle() const {
  std::lock_guard lock(state_->mutex);
  return state_->scheduler.empty() && state_->ended.empty();
}

const EngineConfig& Engine::config() const { return state_->runner.config(); }

Statistics Engine::statistics() const {
  std::lock_guard lock(state_->mutex);
  Statistics out = state_->statistics;
  const Runner& runner = state_->runner;
  state_->scheduler.fill(out);
  out.pages = runner.config().pages;
  out.free_pages = state_->started ? runner.pool().free_count() : out.pages;
  out.kv_bytes = runner.kv_bytes();
  out.summary_bytes = runner.summary_bytes();
  out.rebuilt_summaries = runner.statistics().rebuilt_summaries;
  return out;
}

void Engine::check_integrity() const {
  std::lock_guard lock(state_->mutex);
  if (state_->started) state_->scheduler.check_integrity();
}

}  // namespace vortex::engine
