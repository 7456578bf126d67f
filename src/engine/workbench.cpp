#include "engine/workbench.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/softmax.h"
#include "kv/integrity.h"

namespace vortex::engine {

namespace {
const std::string kWhere = "workbench";
}

struct Workbench::State {
  struct Entry {
    kv::PageTable table;
    int flow = kFullAttention;
    std::int64_t steps = 0;
    std::int64_t lane = -1;  // in the last recorded step
    attention::RowMemory memory = {};
  };

  State(std::shared_ptr<models::Model> model, const EngineConfig& config) : runner(std::move(model), config) {}

  Entry& entry(Sequence id) {
    auto found = entries.find(id);
    if (found == entries.end())
      throw UserError(kWhere, "a sequence that was made and not released", concat("sequence ", id),
                      "make one with prefill or fill");
    return found->second;
  }

  void need_pages(std::int64_t pages) {
    if (runner.pool().can_allocate(pages)) return;
    throw UserError(kWhere, concat("a pool with ", pages, " free pages"),
                    concat(runner.pool().free_count(), " of ", runner.pool().size()),
                    "release sequences, or give the workbench more pages");
  }

  void check_length(std::int64_t tokens) const {
    if (tokens < 1 || tokens > runner.config().max_context)
      throw UserError(kWhere, concat("1 to ", runner.config().max_context, " tokens in a sequence"),
                      std::to_string(tokens), "change the length, or raise max_context if the model allows it");
  }

  void check_token(std::int32_t token) const {
    std::int64_t vocabulary = runner.model().config().vocabulary;
    if (token < 0 || token >= vocabulary)
      throw UserError(kWhere, concat("tokens below the vocabulary of ", vocabulary), concat("token ", token),
                      "encode text with the model's own tokenizer");
  }

  // What a step of so many tokens a sequence needs is there.
  void check_step(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens, std::int64_t steps) {
    if (sequences.size() != tokens.size() || sequences.empty() ||
        static_cast<std::int64_t>(sequences.size()) > runner.config().max_batch)
      throw UserError(kWhere, concat("1 to ", runner.config().max_batch, " sequences and as many tokens"),
                      concat(sequences.size(), " sequences, ", tokens.size(), " tokens"),
                      "split the batch, or raise max_batch");
    std::int64_t needed = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const Entry& it = entry(sequences[i]);
      check_token(tokens[i]);
      check_length(it.table.tokens() + steps);
      if (std::ranges::count(sequences, sequences[i]) > 1)
        throw UserError(kWhere, "each sequence once in a step", concat("sequence ", sequences[i], " twice"), "fork it");
      needed += it.table.pages_needed(runner.pool(), steps);
    }
    need_pages(needed);
  }

  // What was recorded belongs to the step before.
  void forget_lanes() {
    for (auto& [id, entry] : entries) entry.lane = -1;
  }

  // A new sequence, whose table `fill` gives its pages; gone again, pages and all, when that fails.
  template <class Fill>
  Sequence add(Entry entry, Fill&& fill) {
    auto place = entries.emplace(next_id, std::move(entry)).first;
    try {
      fill(place->second.table);
    } catch (...) {
      place->second.table.release(runner.pool());
      entries.erase(place);
      throw;
    }
    return next_id++;
  }

  Runner runner;
  std::map<Sequence, Entry> entries;
  Sequence next_id = 0;
  std::vector<Lane> lanes;
};

Workbench::Workbench(std::shared_ptr<models::Model> model, const EngineConfig& config) {
  config.validate();
  if (!model) throw UserError(kWhere, "a model", "none", "load one first");
  state_ = std::make_unique<State>(std::move(model), config);
}

Workbench::~Workbench() = default;

int Workbench::load_flow(const ir::Program& program) { return state_->runner.load_flow(program); }

void Workbench::build_ahead(const ir::Program& program) const { state_->runner.build_ahead(program); }

void Workbench::unload_flow(int flow) {
  for (const auto& [id, entry] : state_->entries)
    if (entry.flow == flow && flow != kFullAttention)
      throw UserError(kWhere, concat("no sequence of flow ", flow), concat("sequence ", id),
                      "release it before the flow");
  state_->runner.unload_flow(flow);
}

Workbench::Sequence Workbench::prefill(std::span<const std::int32_t> tokens, float* last_logits) {
  Runner& runner = state_->runner;
  auto count = static_cast<std::int64_t>(tokens.size());
  state_->check_length(count);
  for (std::int32_t token : tokens) state_->check_token(token);
  runner.start();
  state_->need_pages(runner.pages_of(count));
  return state_->add({.table = kv::PageTable(runner.config().page_size, count)}, [&](kv::PageTable& table) {
    runner.append(table, count, kv::kDense);
    state_->forget_lanes();
    for (std::int64_t done = 0; done < count;) {
      std::int64_t chunk = std::min(runner.config().chunk_tokens, count - done);
      bool last = done + chunk == count && last_logits != nullptr;
      Lane lane{.table = &table,
                .tokens = tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(chunk)),
                .context = done,
                .prompt = true,
                .wants_logits = last};
      std::span<float> logits = runner.run({&lane, 1});
      if (last) std::ranges::copy(logits, last_logits);
      done += chunk;
    }
  });
}

Workbench::Sequence Workbench::fill(std::int64_t tokens, std::uint64_t seed) {
  Runner& runner = state_->runner;
  state_->check_length(tokens);
  runner.start();
  state_->need_pages(runner.pages_of(tokens));
  runner.pool().shuffle(seed ^ static_cast<std::uint64_t>(state_->next_id));
  return state_->add({.table = kv::PageTable(runner.config().page_size, tokens)}, [&](kv::PageTable& table) {
    runner.append(table, tokens, kv::kDense);
    runner.fill(table, seed);
  });
}

Workbench::Sequence Workbench::fork(Sequence sequence, int flow) {
  Runner& runner = state_->runner;
  runner.check_flow(flow, kWhere);
  const State::Entry& from = state_->entry(sequence);
  if (from.table.origin() != kv::kDense && runner.origin_of(flow) != from.table.origin())
    throw UserError(kWhere, concat("a fork under flow ", from.flow, ", which made KV of sequence ", sequence),
                    flow == kFullAttention ? "full attention" : concat("flow ", flow),
                    "fork before the first decode, or truncate to whole pages that were prefilled");
  return state_->add({.table = kv::PageTable(runner.config().page_size),
                      .flow = flow,
                      .steps = from.flow == flow ? from.steps : 0,
                      .memory = from.flow == flow ? from.memory : attention::RowMemory{}},
                     [&](kv::PageTable& table) { table = from.table.fork(runner.pool()); });
}

void Workbench::release(Sequence sequence) {
  state_->entry(sequence).table.release(state_->runner.pool());
  state_->entries.erase(sequence);
}

std::vector<std::byte> Workbench::save(Sequence sequence) const {
  const kv::PageTable& table = state_->entry(sequence).table;
  if (table.origin() != kv::kDense)
    throw UserError(kWhere, "a sequence that was prefilled", concat("sequence ", sequence, ", in which a flow made KV"),
                    "save it before the first decode of a flow");
  return *state_->runner.save(table, table.tokens()).data;
}

Workbench::Sequence Workbench::restore(std::span<const std::byte> saved, std::int64_t tokens) {
  Runner& runner = state_->runner;
  state_->check_length(tokens);
  runner.start();
  std::int64_t pages = runner.pages_of(tokens), needed = pages * runner.kv_page_bytes();
  if (static_cast<std::int64_t>(saved.size()) != needed)
    throw UserError(kWhere, concat(needed, " bytes for the KV of ", tokens, " tokens"), concat(saved.size(), " bytes"),
                    "restore what a workbench of the same model, page size and KV type saved");
  state_->need_pages(pages);
  SavedKv whole{.data = std::make_shared<std::vector<std::byte>>(saved.begin(), saved.end()),
                .tokens = tokens,
                .dense_pages = pages,
                .origin = kv::kDense};
  return state_->add({.table = kv::PageTable(runner.config().page_size, tokens)},
                     [&](kv::PageTable& table) { runner.restore(whole, table, tokens); });
}

void Workbench::truncate(Sequence sequence, std::int64_t tokens) {
  State::Entry& entry = state_->entry(sequence);
  if (tokens < 1 || tokens > entry.table.tokens())
    throw UserError(kWhere, concat("a length from 1 to ", entry.table.tokens()), std::to_string(tokens),
                    "give another");
  entry.steps =
      std::max<std::int64_t>(0, entry.steps - (entry.table.tokens() - tokens));  // a token a step, the last ones
  entry.table.truncate(state_->runner.pool(), tokens);
  entry.lane = -1;  // what was recorded is of a longer sequence
  state_->runner.forget(entry.flow, entry.memory);
}

std::int64_t Workbench::length(Sequence sequence) const { return state_->entry(sequence).table.tokens(); }

std::span<const float> Workbench::decode(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens) {
  return step(sequences, tokens, false);
}

StepProfile Workbench::profile(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens) {
  for (const Sequence sequence : sequences)
    if (const int flow = state_->entry(sequence).flow; flow != state_->entry(sequences[0]).flow)
      throw UserError(kWhere, "sequences of one flow, whose step is one graph",
                      concat("flows ", state_->entry(sequences[0]).flow, " and ", flow), "profile them by themselves");
  StepProfile out;
  step(sequences, tokens, true, &out);
  return out;
}

std::span<const float> Workbench::step(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens,
                                       bool greedy, StepProfile* profile, bool wants_logits) {
  Runner& runner = state_->runner;
  state_->check_step(sequences, tokens, 1);
  state_->forget_lanes();
  state_->lanes.clear();
  state_->lanes.reserve(sequences.size());
  std::size_t taken = 0;  // sequences that have their page
  try {
    for (; taken < sequences.size(); ++taken) {
      State::Entry& entry = state_->entry(sequences[taken]);
      std::int64_t context = entry.table.tokens();
      if (const std::int64_t room = entry.memory.room(); runner.flow_pages(entry.flow, context + 1) > room)
        runner.reserve(entry.flow, entry.memory, context + 1 + context / 4);
      runner.append(entry.table, 1, runner.origin_of(entry.flow));
      entry.lane = static_cast<std::int64_t>(taken);
      state_->lanes.push_back({.table = &entry.table,
                               .tokens = tokens.subspan(taken, 1),
                               .context = context,
                               .flow = entry.flow,
                               .sparse = entry.flow != kFullAttention,
                               .step = entry.steps++,
                               .memory = &entry.memory,
                               .wants_logits = wants_logits,
                               .token_alone = greedy});
    }
    if (profile == nullptr) return runner.run(state_->lanes);
    *profile = runner.profile(state_->lanes);
    return {};
  } catch (...) {
    for (std::size_t i = 0; i < taken; ++i) {
      State::Entry& entry = state_->entry(sequences[i]);
      entry.table.truncate(runner.pool(), entry.table.tokens() - 1);
      --entry.steps;
    }
    state_->forget_lanes();
    throw;
  }
}

std::vector<std::int32_t> Workbench::greedy(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens,
                                            std::int64_t steps) {
  return this->steps(sequences, tokens, {}, steps);
}

std::vector<std::int32_t> Workbench::feed(std::span<const Sequence> sequences, std::span<const std::int32_t> tokens,
                                          bool said) {
  const auto count = static_cast<std::int64_t>(sequences.size()), given = static_cast<std::int64_t>(tokens.size());
  if (count == 0 || given == 0 || given % count != 0)
    throw UserError(kWhere, "a token for each sequence in each step",
                    concat(given, " tokens for ", count, " sequences"), "give [steps, sequences] tokens");
  for (const std::int32_t token : tokens) state_->check_token(token);
  if (!said && !state_->runner.runs_ahead()) {
    for (std::int64_t step = 0; step < given; step += count)
      this->step(sequences, tokens.subspan(static_cast<std::size_t>(step), sequences.size()), true, nullptr, false);
    return {};
  }
  std::vector<std::int32_t> out = steps(sequences, tokens.first(sequences.size()), tokens, given / count);
  if (!said) out.clear();
  return out;
}

std::vector<std::int32_t> Workbench::steps(std::span<const Sequence> sequences, std::span<const std::int32_t> first,
                                           std::span<const std::int32_t> fed, std::int64_t steps) {
  const std::size_t count = sequences.size();
  std::vector<std::int32_t> out;
  if (steps > 1 && state_->runner.runs_ahead()) {
    out.resize(static_cast<std::size_t>(steps) * count);
    if (ahead(sequences, first, fed, steps, out.data())) return out;
    out.clear();
  }
  std::vector<std::int32_t> next(first.begin(), first.end());
  auto vocabulary = static_cast<std::size_t>(state_->runner.model().config().vocabulary);
  for (std::int64_t step = 0; step < steps; ++step) {
    if (!fed.empty()) std::ranges::copy(fed.subspan(static_cast<std::size_t>(step) * count, count), next.begin());
    std::span<const float> logits = this->step(sequences, next, true);
    const std::span<const Chosen> chosen = state_->runner.chosen();
    for (std::size_t i = 0; i < next.size(); ++i) {
      next[i] = chosen.empty() ? likeliest(logits.subspan(i * vocabulary, vocabulary)) : chosen[i].token;
      if (next[i] < 0)
        throw MachineError(kWhere, "logits that are numbers", concat("NaN for sequence ", sequences[i]),
                           "check the model's weights");
    }
    out.insert(out.end(), next.begin(), next.end());
  }
  return out;
}

bool Workbench::ahead(std::span<const Sequence> sequences, std::span<const std::int32_t> first,
                      std::span<const std::int32_t> fed, std::int64_t steps, std::int32_t* out) {
  Runner& runner = state_->runner;
  state_->check_step(sequences, first, steps);
  const int flow = state_->entry(sequences[0]).flow;
  for (const Sequence sequence : sequences)
    if (state_->entry(sequence).flow != flow) return false;
  state_->forget_lanes();
  state_->lanes.clear();
  state_->lanes.reserve(sequences.size());
  const std::size_t count = sequences.size();
  std::size_t taken = 0;  // sequences that have their pages
  const auto give_back = [&] {
    for (std::size_t i = 0; i < taken; ++i) {
      State::Entry& entry = state_->entry(sequences[i]);
      entry.table.truncate(runner.pool(), entry.table.tokens() - steps);
      entry.steps -= steps;
    }
  };
  try {
    for (; taken < count; ++taken) {
      State::Entry& entry = state_->entry(sequences[taken]);
      const std::int64_t context = entry.table.tokens();
      if (const std::int64_t room = entry.memory.room(); runner.flow_pages(entry.flow, context + steps) > room)
        runner.reserve(entry.flow, entry.memory, context + steps + context / 4);
      runner.append(entry.table, steps, runner.origin_of(entry.flow));
      state_->lanes.push_back({.table = &entry.table,
                               .tokens = first.subspan(taken, 1),
                               .context = context,
                               .flow = entry.flow,
                               .sparse = entry.flow != kFullAttention,
                               .step = entry.steps,
                               .memory = &entry.memory,
                               .wants_logits = true,
                               .token_alone = true});
      entry.steps += steps;
    }
    runner.run_ahead(state_->lanes, steps, fed, out);
    for (std::size_t i = 0; i < count * static_cast<std::size_t>(steps); ++i)
      if (out[i] < 0)
        throw MachineError(kWhere, "logits that are numbers", concat("NaN for sequence ", sequences[i % count]),
                           "check the model's weights");
  } catch (...) {
    give_back();
    throw;
  }
  return true;
}

void Workbench::record_pages(bool on) { state_->runner.record_pages(on); }

std::vector<std::int32_t> Workbench::page_list(Sequence sequence, std::int64_t layer, std::int64_t kv_head) const {
  const Runner& runner = state_->runner;
  const State::Entry& entry = state_->entry(sequence);
  const attention::Geometry model = runner.model().config().attention();
  if (layer < 0 || layer >= model.layers || kv_head < 0 || kv_head >= model.kv_heads)
    throw UserError(kWhere, concat("a layer below ", model.layers, " and a KV head below ", model.kv_heads),
                    concat("layer ", layer, ", KV head ", kv_head), "give others");
  if (!runner.recorded() || entry.lane < 0)
    throw UserError(kWhere, "a recorded step that decoded the sequence", concat("sequence ", sequence),
                    "call record_pages(true) before the step");
  std::span<const std::int32_t> pages = runner.recorded(entry.lane, layer, kv_head);
  if (!pages.empty()) return {pages.begin(), pages.end()};
  std::vector<std::int32_t> all(static_cast<std::size_t>(runner.flow_pages(entry.flow, entry.table.tokens())));
  for (std::size_t page = 0; page < all.size(); ++page) all[page] = static_cast<std::int32_t>(page);
  return all;
}

Workbench::Attended Workbench::attended(Sequence sequence) const {
  const attention::Geometry& geometry = state_->runner.geometry();
  const State::Entry& entry = state_->entry(sequence);
  std::int64_t tokens = entry.table.tokens(), size = state_->runner.flow_page_size(entry.flow);
  Attended sum;
  for (std::int64_t layer = 0; layer < geometry.layers; ++layer)
    for (std::int64_t head = 0; head < geometry.kv_heads; ++head)
      for (std::int32_t page : page_list(sequence, layer, head)) {
        ++sum.pages;
        sum.tokens += std::min(size, tokens - page * size);
      }
  return sum;
}

const EngineConfig& Workbench::config() const { return state_->runner.config(); }
const models::Model& Workbench::model() const { return state_->runner.model(); }
const StepStatistics& Workbench::statistics() const { return state_->runner.statistics(); }
void Workbench::reset_statistics() { state_->runner.reset_statistics(); }
std::int64_t Workbench::kv_bytes() const { return state_->runner.kv_bytes(); }
std::int64_t Workbench::summary_bytes() const { return state_->runner.summary_bytes(); }

std::int64_t Workbench::free_pages() const {
  state_->runner.start();
  return state_->runner.pool().free_count();
}

void Workbench::check_integrity() const {
  state_->runner.start();
  std::vector<const kv::PageTable*> tables;
  for (const auto& [id, entry] : state_->entries) tables.push_back(&entry.table);
  kv::check_integrity(state_->runner.pool(), tables, nullptr, {});
}

}  // namespace vortex::engine
