#include "engine/runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "compiler/plan.h"
#include "models/model.h"

namespace vortex::engine {

namespace {

using Clock = std::chrono::steady_clock;

attention::Geometry geometry_of(const models::ModelConfig& model, const EngineConfig& config) {
  attention::Geometry geometry = model.attention();
  if (geometry.head_dim > 1024 || geometry.value_channels() > 1024 || geometry.group > 128)
    throw UserError("engine", "a model with keys of at most 1024 channels and at most 128 query heads to a KV head",
                    concat(geometry.head_dim, " channels, ", geometry.group * geometry.kv_heads, " query and ",
                           geometry.kv_heads, " KV heads"),
                    "attention has no kernels for this model");
  geometry.page_size = config.page_size;
  geometry.kv_type = config.kv_type;
  geometry.validate();
  return geometry;
}

// The parts of a step's time that attention accounts for; the rest is the model's.
constexpr std::pair<double StepStatistics::*, double attention::StepStatistics::*> kAttentionSeconds[] = {
    {&StepStatistics::append_seconds, &attention::StepStatistics::append_seconds},
    {&StepStatistics::summarize_seconds, &attention::StepStatistics::summarize_seconds},
    {&StepStatistics::score_seconds, &attention::StepStatistics::score_seconds},
    {&StepStatistics::select_seconds, &attention::StepStatistics::select_seconds},
    {&StepStatistics::attend_seconds, &attention::StepStatistics::attend_seconds},
    {&StepStatistics::prefill_seconds, &attention::StepStatistics::prefill_seconds},
};

// Passes a step's attention on and keeps the page lists of its decode rows.
class Recorder final : public attention::LayerAttention {
 public:
  Recorder(attention::CpuStep& step, std::int64_t slices, const attention::Geometry& geometry,
           std::vector<std::vector<std::int32_t>>& lists)
      : step_(step), slices_(slices), geometry_(geometry), lists_(lists) {}

  void run(std::int32_t layer, const float* q, const float* k, const float* v, float* out) override {
    step_.run(layer, q, k, v, out);
    for (std::int64_t slice = 0; slice < slices_; ++slice)
      for (std::int64_t head = 0; head < geometry_.kv_heads; ++head) {
        std::span<const std::int32_t> pages = step_.selected(slice, head);
        lists_[static_cast<std::size_t>((slice * geometry_.layers + layer) * geometry_.kv_heads + head)].assign(
            pages.begin(), pages.end());
      }
  }

 private:
  attention::CpuStep& step_;
  std::int64_t slices_;
  const attention::Geometry& geometry_;
  std::vector<std::vector<std::int32_t>>& lists_;
};

}  // namespace

Runner::Runner(std::shared_ptr<models::Model> model, const EngineConfig& config)
    : model_(std::move(model)),
      config_(config),
      geometry_(geometry_of(model_->config(), config)),
      threads_(config.threads),
      memory_limit_(config.memory_bytes > 0 ? config.memory_bytes : available_memory() / 5 * 4) {
  std::int64_t made_for = model_->config().context;
  if (config_.max_context == 0) config_.max_context = made_for;
  if (config_.max_context > made_for)
    throw UserError("engine", concat("max_context of at most ", made_for, ", what the model was made for"),
                    std::to_string(config_.max_context), "lower max_context");
  config_.max_context = std::min<std::int64_t>(config_.max_context, 1 << 30);
}

void Runner::start() {
  if (pool_) return;
  std::int64_t per_page = KvMemory::page_bytes(geometry_), summaries = 0;
  for (const attention::LoadedFlow& it : flows_)
    if (it.flow)
      summaries += attention::SummaryArena::bytes_for(it.flow->fields(), geometry_.layers, 1, geometry_.kv_heads);
  per_page += summaries;
  std::int64_t pages = config_.pages;
  if (pages == 0) {  // as many as the largest batch of the longest sequences can use, in three quarters of the memory:
                     // the rest is for flows that are loaded later
    pages = std::min(config_.max_batch * (pages_of(config_.max_context) + 1), memory_limit_ / 4 * 3 / per_page);
    if (pages < 1)
      throw UserError(
          "engine", concat("memory for at least one page of ", per_page, " bytes (", summaries, " of them summaries)"),
          concat(memory_limit_, " bytes"), "raise memory_bytes");
  }
  if (pages > memory_limit_ / per_page)
    throw MachineError("engine",
                       concat(pages, " pages of ", per_page, " bytes (", summaries, " of them summaries), ",
                              pages * per_page, " bytes in all"),
                       concat("memory for ", memory_limit_, " bytes"), "lower `pages` or raise memory_bytes");
  config_.pages = pages;
  memory_ = std::make_unique<KvMemory>(geometry_, pages);
  for (std::size_t flow = 0; flow < flows_.size(); ++flow) {
    if (!flows_[flow].flow) continue;
    arenas_[flow] = make_arena(*flows_[flow].flow);
    flows_[flow].arena = arenas_[flow].get();
  }

  auto batch = static_cast<std::size_t>(config_.max_batch);
  std::size_t tokens = batch + static_cast<std::size_t>(config_.chunk_tokens);
  slices_.reserve(batch);
  token_ids_.reserve(tokens);
  positions_.reserve(tokens);
  logit_tokens_.reserve(batch);
  logits_.resize(batch * static_cast<std::size_t>(model_->config().vocabulary));
  auto pool = std::make_unique<kv::PagePool>(pages);
  pool->on_free([this](kv::Page page) {
    for (auto& arena : arenas_)
      if (arena) arena->invalidate(page);
  });
  pool_ = std::move(pool);  // last: a start that failed may be tried again
  debug(1, "engine: ", pages, " pages of ", config_.page_size, " tokens, ", memory_->bytes(), " bytes of KV, ",
        summary_bytes(), " bytes of summaries");
}

int Runner::load_flow(const ir::Program& program) {
  ir::verify(program);
  program.config.validate(program.name);
  std::string key = concat(ir::canonical_hash(program), " ", program.config.print());
  for (std::size_t flow = 0; flow < flow_keys_.size(); ++flow)
    if (flow_keys_[flow] == key) return static_cast<int>(flow);
  if (program.config.page_size % config_.page_size != 0)
    throw UserError(program.name, concat("a page_size that is a multiple of the engine's, ", config_.page_size),
                    std::to_string(program.config.page_size),
                    "change the flow's page_size, or start the engine with another");
  for (std::int64_t layer : program.config.full_attention_layers)
    if (layer >= geometry_.layers)
      throw UserError(program.name, concat("full_attention_layers below the model's ", geometry_.layers, " layers"),
                      std::to_string(layer), "name layers that the model has");
  ir::Geometry geometry{.page_size = program.config.page_size,
                        .head_dim = geometry_.head_dim,
                        .group = geometry_.group,
                        .value_dim = geometry_.value_dim};
  ir::verify(program, geometry);
  auto flow = codegen::CpuFlow::build(compiler::compile(program, geometry));
  if (pool_) {
    std::int64_t bytes =
        attention::SummaryArena::bytes_for(flow->fields(), geometry_.layers, config_.pages, geometry_.kv_heads);
    std::int64_t used = kv_bytes() + summary_bytes();
    if (used + bytes > memory_limit_)
      throw MachineError(program.name, concat("memory for its summaries, ", bytes, " bytes"),
                         concat(memory_limit_ - used, " of ", memory_limit_, " bytes left"),
                         "raise memory_bytes, lower `pages`, or unload another flow");
  }
  std::unique_ptr<attention::SummaryArena> arena = pool_ ? make_arena(*flow) : nullptr;
  flows_.push_back({.flow = std::move(flow), .config = program.config, .arena = arena.get()});
  flow_keys_.push_back(std::move(key));
  arenas_.push_back(std::move(arena));
  return static_cast<int>(flows_.size() - 1);
}

std::unique_ptr<attention::SummaryArena> Runner::make_arena(const codegen::CpuFlow& flow) const {
  if (flow.fields().empty()) return nullptr;
  return std::make_unique<attention::SummaryArena>(flow.fields(), geometry_.layers, config_.pages, geometry_.kv_heads);
}

void Runner::unload_flow(int flow) {
  check_flow(flow, "unload_flow");
  if (flow == kFullAttention) return;
  auto index = static_cast<std::size_t>(flow);
  flows_[index] = {};
  flow_keys_[index].clear();
  arenas_[index].reset();
}

void Runner::check_flow(int flow, const std::string& where) const {
  bool known = flow == kFullAttention || (flow >= 0 && static_cast<std::size_t>(flow) < flows_.size() &&
                                          flows_[static_cast<std::size_t>(flow)].flow);
  if (!known)
    throw UserError(where, concat("the id of a loaded flow, or ", kFullAttention, " for full attention"),
                    std::to_string(flow), "use the id that load_flow returned");
}

std::int64_t Runner::flow_pages(int flow, std::int64_t tokens) const {
  std::int64_t size =
      flow == kFullAttention ? config_.page_size : flows_[static_cast<std::size_t>(flow)].config.page_size;
  return ceil_div(tokens, size);
}

std::int64_t Runner::summary_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& arena : arenas_)
    if (arena) bytes += arena->bytes();
  return bytes;
}

bool Runner::append(kv::PageTable& table, std::int64_t tokens, kv::Origin origin) {
  kv::PageTable::Copy copy = table.append(*pool_, tokens, origin);
  if (copy.from < 0) return false;
  memory_->copy(copy.from, copy.to);
  return true;
}

SavedKv Runner::save(const kv::PageTable& table, std::int64_t tokens) const {
  std::int64_t pages = pages_of(tokens), size = memory_->layer_page_bytes();
  auto data = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(geometry_.layers * pages * size));
  std::byte* to = data->data();
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer)
    for (std::int64_t page = 0; page < pages; ++page, to += size)
      std::memcpy(to, memory_->page(layer, table.pages()[static_cast<std::size_t>(page)]),
                  static_cast<std::size_t>(size));
  SavedKv saved{.data = std::move(data), .tokens = tokens, .dense_pages = 0, .origin = kv::kDense};
  for (kv::Page page : table.pages().first(static_cast<std::size_t>(pages))) {
    saved.origin = pool_->origin(page);
    if (saved.origin == kv::kDense) ++saved.dense_pages;
  }
  return saved;
}

void Runner::restore(const SavedKv& saved, kv::PageTable& table, std::int64_t room_tokens) {
  VORTEX_CHECK(table.tokens() == 0 && room_tokens >= saved.tokens, "room for ", room_tokens, " of ", saved.tokens,
               " tokens");
  std::int64_t dense = std::min(saved.dense_pages * config_.page_size, saved.tokens);
  table.append(*pool_, dense, kv::kDense);
  table.append(*pool_, saved.tokens - dense, saved.origin);
  table.append(*pool_, room_tokens - saved.tokens, kv::kDense);
  std::int64_t pages = pages_of(saved.tokens), size = memory_->layer_page_bytes();
  const std::byte* from = saved.data->data();
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer)
    for (std::int64_t page = 0; page < pages; ++page, from += size)
      std::memcpy(memory_->page(layer, table.pages()[static_cast<std::size_t>(page)]), from,
                  static_cast<std::size_t>(size));
}

std::span<float> Runner::run(std::span<const Lane> lanes) {
  auto began = Clock::now();
  VORTEX_CHECK(static_cast<std::int64_t>(lanes.size()) <= config_.max_batch, lanes.size(), " lanes");
  slices_.clear();
  token_ids_.clear();
  positions_.clear();
  logit_tokens_.clear();
  for (const Lane& lane : lanes) {
    auto count = static_cast<std::int64_t>(lane.tokens.size());
    std::int64_t pages = pages_of(lane.context + count);
    VORTEX_CHECK(count > 0 && pages <= static_cast<std::int64_t>(lane.table->pages().size()), count, " tokens after ",
                 lane.context, " in ", lane.table->pages().size(), " pages");
    slices_.push_back({.first_token = static_cast<std::int32_t>(token_ids_.size()),
                       .token_count = static_cast<std::int32_t>(count),
                       .context = static_cast<std::int32_t>(lane.context),
                       .page_table = lane.table->pages().data(),
                       .page_count = static_cast<std::int32_t>(pages),
                       .flow = lane.flow,
                       .sparse = lane.sparse,
                       .step = lane.step});
    for (std::int64_t i = 0; i < count; ++i) {
      token_ids_.push_back(lane.tokens[static_cast<std::size_t>(i)]);
      positions_.push_back(static_cast<std::int32_t>(lane.context + i));
    }
    if (lane.wants_logits) logit_tokens_.push_back(static_cast<std::int32_t>(token_ids_.size() - 1));
  }
  attention::CpuStep step(geometry_, memory_->views(), flows_, slices_, workspace_, threads_);
  Recorder recorder(step, static_cast<std::int64_t>(lanes.size()), geometry_, recorded_);
  recorded_.resize(recording_ ? lanes.size() * static_cast<std::size_t>(geometry_.layers * geometry_.kv_heads) : 0);
  models::StepInput input{.tokens = static_cast<std::int64_t>(token_ids_.size()),
                          .token_ids = token_ids_.data(),
                          .positions = positions_.data(),
                          .logit_rows = static_cast<std::int64_t>(logit_tokens_.size()),
                          .logit_tokens = logit_tokens_.data(),
                          .logits = logits_.data()};
  model_->step(input, recording_ ? static_cast<attention::LayerAttention&>(recorder) : step, threads_);
  add_statistics(step.statistics(), input.tokens, std::chrono::duration<double>(Clock::now() - began).count());
  return std::span(logits_).first(logit_tokens_.size() * static_cast<std::size_t>(model_->config().vocabulary));
}

void Runner::add_statistics(const attention::StepStatistics& step, std::int64_t tokens, double seconds) {
  StepStatistics& sum = statistics_;
  ++sum.steps;
  sum.tokens += tokens;
  sum.seconds += seconds;
  sum.other_seconds += seconds;
  for (const auto& [part, of_step] : kAttentionSeconds) {
    sum.*part += step.*of_step;
    sum.other_seconds -= step.*of_step;
  }
  for (const attention::LayerCounts& layer : step.layers) {
    sum.rows += layer.rows;
    sum.sparse_rows += layer.sparse_rows;
    sum.covered_rows += layer.covered_rows;
    sum.candidate_pages += layer.candidates;
    sum.attended_pages += layer.attended_pages;
    sum.attended_tokens += layer.attended_tokens;
  }
  sum.summary_bytes += step.summary_bytes;
  sum.kv_bytes += step.kv_bytes;
  sum.summarized_pages += step.summarized_pages;
  sum.rebuilt_summaries += step.rebuilt_pages;
}

std::span<const std::int32_t> Runner::recorded(std::int64_t lane, std::int64_t layer, std::int64_t kv_head) const {
  return recorded_[static_cast<std::size_t>((lane * geometry_.layers + layer) * geometry_.kv_heads + kv_head)];
}

}  // namespace vortex::engine
