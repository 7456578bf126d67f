// The engine's face: checks requests, and runs steps as launch (schedule, give to the device) → finish (read, choose,
// report). A step whose tokens are all chosen where it runs stays on its way while the next one is launched, which
// takes them from there; what became of them is known a step late, so that a sequence which a token ended has one more,
// that nobody reads.
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

namespace {

const std::int32_t kNoToken = 0;  // stands where the device has the token

// A step that is launched and not finished.
struct Flight {
  struct Part {
    Sequence* sequence;  // null: it has ended meanwhile
    std::int64_t tokens;
    bool prefilled, wants;
    double uniform;
  };
  std::vector<Part> parts;
  std::vector<std::size_t> rows;           // parts that want a token
  std::vector<std::uint8_t> token_alone;   // [rows]
  std::vector<attention::RowMemory> kept;  // of sequences that ended, until the device is done with it
  bool stays = false;                      // the next step may be launched before it is finished

  void clear() { parts.clear(), rows.clear(), token_alone.clear(), kept.clear(); }
};

}  // namespace

struct Engine::State {
  State(std::shared_ptr<models::Model> model, const EngineConfig& config)
      : runner(std::move(model), config), scheduler(runner) {
    for (int worker = 0; worker < runner.threads().threads(); ++worker)
      samplers.emplace_back(runner.model().config().vocabulary);
    auto batch = static_cast<std::size_t>(config.max_batch);
    lanes.reserve(batch);
    for (Flight& it : flights) it.parts.reserve(batch), it.rows.reserve(batch), it.token_alone.reserve(batch);
    sampled.reserve(batch);
    events.reserve(2 * batch);
    ended.reserve(2 * batch);
  }

  // Steps on their way work in memory of the sequences.
  ~State() {
    try {
      for (; flown > 0; --flown) runner.finish();
    } catch (const Error&) {  // nobody reads them
    }
  }

  void start() {
    if (started) return;
    runner.start();
    scheduler.start();
    started = true;
  }

  // What decides the draw of the token after those that are known or awaited.
  double uniform_for(const Sequence& it) const {
    const std::uint64_t seed = it.request.sampling.seed + runner.config().seed * 0x9e3779b97f4a7c15ULL;
    return uniform_of(seed, static_cast<std::uint64_t>(it.size() + it.awaited));
  }
  void launch();
  void finish(std::vector<Event>& to);
  void report(Flight&, std::vector<Event>& to);
  void detach(Sequence&);
  Flight& flight(int number) { return flights[(first + number) % 2]; }  // 0: the earliest

  std::mutex mutex;
  Runner runner;
  Scheduler scheduler;
  bool started = false;
  std::int64_t next_id = 0;
  std::vector<Sampler> samplers;  // one a thread
  std::vector<Lane> lanes;
  Flight flights[2];
  int first = 0, flown = 0;          // how many are on their way
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
  while (state_->flown > 0) state_->finish(state_->ended);
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
  state_->detach(*it);
  state_->scheduler.drop(*it);
  state_->ended.push_back({.request = request, .finished = FinishReason::aborted});
  return true;
}

const std::vector<Event>& Engine::step() {
  std::lock_guard lock(state_->mutex);
  auto began = Clock::now();
  State& it = *state_;
  if (it.flown == 0) it.launch();
  if (it.flown == 1 && it.flight(0).stays) it.launch();
  it.events.assign(it.ended.begin(), it.ended.end());
  it.ended.clear();
  if (it.flown > 0) {
    it.finish(it.events);
    ++it.statistics.steps;
  }
  const auto nobody = [](const Flight::Part& part) { return part.sequence == nullptr; };
  if (it.flown > 0 && std::ranges::all_of(it.flight(0).parts, nobody)) it.finish(it.events);
  if (it.started && it.scheduler.empty()) it.scheduler.check_integrity();
  it.statistics.seconds += since(began);
  return it.events;
}

// What the scheduler says goes to the device; from then on sequences are where the step leaves them, but for tokens.
void Engine::State::launch() {
  Flight& to = flight(flown);
  to.clear();
  lanes.clear();
  try {
    for (const Scheduler::Work& work : scheduler.schedule()) {
      Sequence& it = *work.sequence;
      const bool prefilling = it.prefilling(), follows = !prefilling && it.awaited > 0;
      const bool last = it.stored + work.tokens >= it.prompt();
      const SamplingParams& sampling = it.request.sampling;
      const bool draws = sampling.draws_plainly(), alone = draws || sampling.takes_likeliest();
      const double uniform = uniform_for(it);
      lanes.push_back({.table = &it.table,
                       .tokens = follows
                                     ? std::span(&kNoToken, 1)
                                     : std::span<const std::int32_t>(it.tokens).subspan(
                                           static_cast<std::size_t>(it.stored), static_cast<std::size_t>(work.tokens)),
                       .context = it.stored,
                       .flow = it.request.flow,
                       .sparse = !prefilling && it.request.flow != kFullAttention,
                       .prompt = prefilling,
                       .step = it.decode_steps,
                       .memory = &it.memory,
                       .wants_logits = last,
                       .token_alone = alone,
                       .draw = draws ? Draw{.temperature = sampling.temperature,
                                            .top_p = sampling.top_p,
                                            .min_p = sampling.min_p,
                                            .top_k = sampling.top_k,
                                            .uniform = uniform}
                                     : Draw{},
                       .follows = follows ? it.row : -1});
      if (last) {
        to.rows.push_back(to.parts.size());
        to.token_alone.push_back(alone);
      }
      to.parts.push_back({&it, work.tokens, prefilling, last, uniform});
    }
    if (lanes.empty()) return;
    const auto began = Clock::now();
    runner.launch(lanes);
    statistics.model_seconds += since(began);
  } catch (...) {
    scheduler.undo();
    throw;
  }
  ++flown;
  to.stays =
      runner.config().overlap && runner.overlaps() && std::ranges::find(to.token_alone, 0) == to.token_alone.end();
  std::int32_t row = 0;
  for (const Flight::Part& part : to.parts) {
    Sequence& it = *part.sequence;
    it.stored += part.tokens;
    if (!part.prefilled) ++it.decode_steps;
    if (!part.wants) continue;
    if (part.prefilled) scheduler.remember(it);
    ++it.awaited;
    it.row = row++;
  }
}

// The earliest step on its way: a token for each part that has come to its end.
void Engine::State::finish(std::vector<Event>& to) {
  Flight& it = flight(0);
  const auto began = Clock::now();
  const std::span<const float> logits = runner.finish();
  statistics.model_seconds += since(began);
  const auto vocabulary = static_cast<std::size_t>(runner.model().config().vocabulary);
  const std::span<const Chosen> chosen = runner.chosen();
  sampled.resize(it.rows.size());
  runner.threads().for_each(static_cast<std::int64_t>(it.rows.size()), [&](std::int64_t index, int worker) {
    const auto at = static_cast<std::size_t>(index);
    const Flight::Part& part = it.parts[it.rows[at]];
    if (part.sequence == nullptr) return;
    if (!chosen.empty() && it.token_alone[at] != 0) {
      sampled[at] = {.token = chosen[at].token, .logprob = chosen[at].logprob};
      return;
    }
    const Sequence& of = *part.sequence;
    sampled[at] = samplers[static_cast<std::size_t>(worker)].sample(
        logits.subspan(at * vocabulary, vocabulary), of.request.sampling, {.tokens = of.tokens, .prompt = of.prompt()},
        part.uniform);
  });
  for (std::size_t at = 0; at < it.rows.size(); ++at)
    if (it.parts[it.rows[at]].sequence != nullptr)
      ++(!chosen.empty() && it.token_alone[at] != 0 ? statistics.device_choices : statistics.host_choices);
  report(it, to);
  it.clear();
  first = 1 - first, --flown;
}

// What became of each sequence: a token more, or the end.
void Engine::State::report(Flight& flight, std::vector<Event>& to) {
  std::size_t row = 0;
  for (Flight::Part& part : flight.parts) {
    const std::size_t at = row;
    if (part.wants) ++row;
    if (part.sequence == nullptr) continue;
    Sequence& it = *part.sequence;
    (part.prefilled ? statistics.prefill_tokens : statistics.decode_tokens) += part.tokens;
    if (!part.wants) continue;
    --it.awaited;
    Sampled& chosen = sampled[at];
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
    if (event.finished != FinishReason::none) {
      part.sequence = nullptr;
      detach(it);
      if (event.token < 0)
        scheduler.drop(it);
      else
        scheduler.finish(it);
    }
    to.push_back(std::move(event));
  }
}

// A sequence ends: what steps on their way choose for it goes nowhere. Its pages may be given away at once, for what
// writes them next comes after those steps.
void Engine::State::detach(Sequence& it) {
  for (int number = 0; number < flown; ++number) {
    Flight& on = flight(number);
    const auto part = std::ranges::find(on.parts, &it, &Flight::Part::sequence);
    if (part == on.parts.end()) continue;
    part->sequence = nullptr;
    if (!part->prefilled) it.stored -= part->tokens;
    on.kept.push_back(std::move(it.memory));
  }
}

bool Engine::idle() const {
  std::lock_guard lock(state_->mutex);
  return state_->scheduler.empty() && state_->ended.empty() && state_->flown == 0;
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
