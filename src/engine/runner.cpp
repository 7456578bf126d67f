#include "engine/runner.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/log.h"
#include "models/model.h"

namespace vortex::engine {

namespace {

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

// With max_context filled in.
EngineConfig resolve(EngineConfig config, const models::ModelConfig& model) {
  if (config.max_context == 0) config.max_context = model.context;
  if (config.max_context > model.context)
    throw UserError("engine", concat("max_context of at most ", model.context, ", what the model was made for"),
                    std::to_string(config.max_context), "lower max_context");
  config.max_context = std::min<std::int64_t>(config.max_context, 1 << 30);
  return config;
}

}  // namespace

Runner::Runner(std::shared_ptr<models::Model> model, const EngineConfig& config)
    : model_(std::move(model)),
      config_(resolve(config, model_->config())),
      geometry_(geometry_of(model_->config(), config)),
      threads_(config.threads),
      backend_(make_backend(model_, config_, geometry_, threads_)),
      memory_limit_(config.memory_bytes > 0 ? config.memory_bytes : backend_->available_bytes()) {}

void Runner::start() {
  if (pool_) return;
  if (config_.memory_bytes == 0) memory_limit_ = backend_->available_bytes();  // less by now: flows were compiled
  std::int64_t per_page = backend_->page_bytes(), summaries = 0;
  for (const LoadedFlow& it : flows_) summaries += it.page_bytes;
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
  backend_->allocate(pages);

  auto batch = static_cast<std::size_t>(config_.max_batch);
  std::size_t tokens = batch + static_cast<std::size_t>(config_.chunk_tokens);
  slices_.reserve(batch);
  token_ids_.reserve(tokens);
  positions_.reserve(tokens);
  logit_tokens_.reserve(batch);
  token_alone_.reserve(batch);
  draws_.reserve(batch);
  follows_.reserve(batch);
  auto pool = std::make_unique<kv::PagePool>(pages);
  pool->on_free([this](kv::Page page) { backend_->invalidate(page); });
  config_.pages = pages;
  pool_ = std::move(pool);  // last: a start that failed may be tried again
  debug(1, "engine: ", pages, " pages of ", config_.page_size, " tokens, ", kv_bytes(), " bytes of KV, ",
        summary_bytes(), " bytes of summaries");
}

int Runner::load_flow(const ir::Program& program) {
  ir::verify(program);
  program.config.validate(program.name);
  std::string key = concat(ir::canonical_hash(program), " ", program.config.print());
  for (std::size_t flow = 0; flow < flows_.size(); ++flow)
    if (flows_[flow].key == key) return static_cast<int>(flow);
  if (program.config.page_size % config_.page_size != 0)
    throw UserError(program.name, concat("a page_size that is a multiple of the engine's, ", config_.page_size),
                    std::to_string(program.config.page_size),
                    "change the flow's page_size, or start the engine with another");
  for (std::int64_t layer : program.config.full_attention_layers)
    if (layer >= geometry_.layers)
      throw UserError(program.name, concat("full_attention_layers below the model's ", geometry_.layers, " layers"),
                      std::to_string(layer), "name layers that the model has");
  for (const auto& [layer, source] : program.config.reuse)
    if (layer >= geometry_.layers)
      throw UserError(program.name, concat("reuse below the model's ", geometry_.layers, " layers"),
                      concat(layer, ":", source), "name layers that the model has");
  for (const ir::LayerFlow& other : program.others)
    if (other.layers.back() >= geometry_.layers)
      throw UserError(program.name, concat("flows for layers below the model's ", geometry_.layers, " layers"),
                      concat("layer ", other.layers.back(), " for ", other.flow->name),
                      "name layers that the model has");
  const int number = static_cast<int>(flows_.size());
  const std::int64_t page_bytes = backend_->compile(number, program);
  try {
    if (pool_) {
      std::int64_t bytes = page_bytes * config_.pages, used = kv_bytes() + summary_bytes();
      if (used + bytes > memory_limit_)
        throw MachineError(program.name, concat("memory for its summaries, ", bytes, " bytes"),
                           concat(memory_limit_ - used, " of ", memory_limit_, " bytes left"),
                           "raise memory_bytes, lower `pages`, or unload another flow");
      backend_->allocate_summaries(number);
    }
    flows_.push_back({.key = std::move(key),
                      .config = program.config,
                      .page_bytes = page_bytes,
                      .carried = backend_->carried(number)});
    flows_.resize(flows_.size() + program.others.size());  // numbers of their own, which nobody is given
  } catch (...) {
    backend_->forget(number);
    throw;
  }
  return number;
}

void Runner::unload_flow(int flow) {
  check_flow(flow, "unload_flow");
  if (flow == kFullAttention) return;
  flows_[static_cast<std::size_t>(flow)] = {};
  backend_->forget(flow);
}

void Runner::check_flow(int flow, const std::string& where) const {
  bool known = flow == kFullAttention || (flow >= 0 && static_cast<std::size_t>(flow) < flows_.size() &&
                                          !flows_[static_cast<std::size_t>(flow)].key.empty());
  if (!known)
    throw UserError(where, concat("the id of a loaded flow, or ", kFullAttention, " for full attention"),
                    std::to_string(flow), "use the id that load_flow returned");
}

std::int64_t Runner::flow_page_size(int flow) const {
  return flow == kFullAttention ? config_.page_size : flows_[static_cast<std::size_t>(flow)].config.page_size;
}

std::int64_t Runner::flow_pages(int flow, std::int64_t tokens) const { return ceil_div(tokens, flow_page_size(flow)); }

std::int64_t Runner::carried_bytes(int flow, std::int64_t tokens) const {
  return flow == kFullAttention ? 0 : flows_[static_cast<std::size_t>(flow)].carried.bytes_for(tokens);
}

void Runner::reserve(int flow, attention::RowMemory& memory, std::int64_t tokens) const {
  if (flow != kFullAttention) memory.reserve(flows_[static_cast<std::size_t>(flow)].carried, tokens);
}

void Runner::forget(int flow, attention::RowMemory& memory) const {
  if (flow != kFullAttention) memory.forget(flows_[static_cast<std::size_t>(flow)].carried);
}

bool Runner::append(kv::PageTable& table, std::int64_t tokens, kv::Origin origin) {
  kv::PageTable::Copy copy = table.append(*pool_, tokens, origin);
  if (copy.from < 0) return false;
  backend_->copy(copy.from, copy.to);
  return true;
}

SavedKv Runner::save(const kv::PageTable& table, std::int64_t tokens) const {
  std::span<const kv::Page> pages = table.pages().first(static_cast<std::size_t>(pages_of(tokens)));
  auto data = std::make_shared<std::vector<std::byte>>(pages.size() * static_cast<std::size_t>(backend_->page_bytes()));
  backend_->save(pages, data->data());
  SavedKv saved{.data = std::move(data), .tokens = tokens, .dense_pages = 0, .origin = kv::kDense};
  for (kv::Page page : pages) {
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
  backend_->restore(table.pages().first(static_cast<std::size_t>(pages_of(saved.tokens))), saved.data->data());
}

void Runner::fill(const kv::PageTable& table, std::uint64_t seed) { backend_->fill(table.pages(), seed); }

// more: tokens that a lane's pages hold beside those of the step.
void Runner::put_lanes(std::span<const Lane> lanes, std::int64_t more) {
  VORTEX_CHECK(static_cast<std::int64_t>(lanes.size()) <= config_.max_batch, lanes.size(), " lanes");
  slices_.clear();
  token_ids_.clear();
  positions_.clear();
  logit_tokens_.clear();
  token_alone_.clear();
  draws_.clear();
  follows_.clear();
  for (const Lane& lane : lanes) {
    auto count = static_cast<std::int64_t>(lane.tokens.size());
    std::int64_t pages = pages_of(lane.context + count + more);
    VORTEX_CHECK(count > 0 && pages <= static_cast<std::int64_t>(lane.table->pages().size()), count, " tokens after ",
                 lane.context, " in ", lane.table->pages().size(), " pages");
    slices_.push_back({.first_token = static_cast<std::int32_t>(token_ids_.size()),
                       .token_count = static_cast<std::int32_t>(count),
                       .context = static_cast<std::int32_t>(lane.context),
                       .page_table = lane.table->pages().data(),
                       .page_count = static_cast<std::int32_t>(pages),
                       .flow = lane.flow,
                       .sparse = lane.sparse,
                       .prompt = lane.prompt,
                       .step = lane.step,
                       .memory = lane.memory});
    follows_.push_back(lane.follows);
    for (std::int64_t i = 0; i < count; ++i) {
      token_ids_.push_back(lane.tokens[static_cast<std::size_t>(i)]);
      positions_.push_back(static_cast<std::int32_t>(lane.context + i));
    }
    if (!lane.wants_logits) continue;
    logit_tokens_.push_back(static_cast<std::int32_t>(token_ids_.size() - 1));
    token_alone_.push_back(lane.token_alone);
    draws_.push_back(lane.draw);
  }
}

void Runner::run_ahead(std::span<const Lane> lanes, std::int64_t steps, std::span<const std::int32_t> fed,
                       std::int32_t* tokens) {
  auto began = Clock::now();
  put_lanes(lanes, steps - 1);
  backend_->run_ahead({.slices = slices_,
                       .token_ids = token_ids_,
                       .positions = positions_,
                       .logit_tokens = logit_tokens_,
                       .token_alone = token_alone_,
                       .fed = fed,
                       .statistics = &statistics_},
                      steps, tokens);
  statistics_.steps += steps;
  statistics_.tokens += steps * static_cast<std::int64_t>(lanes.size());
  add_seconds(began);
}

StepProfile Runner::profile(std::span<const Lane> lanes) {
  put_lanes(lanes, 0);
  return backend_->profile({.slices = slices_,
                            .token_ids = token_ids_,
                            .positions = positions_,
                            .logit_tokens = logit_tokens_,
                            .token_alone = token_alone_});
}

std::span<float> Runner::run(std::span<const Lane> lanes) {
  launch(lanes);
  return finish();
}

void Runner::launch(std::span<const Lane> lanes) {
  auto began = Clock::now();
  put_lanes(lanes, 0);
  recorded_.resize(recording_ ? lanes.size() * static_cast<std::size_t>(geometry_.layers * geometry_.kv_heads) : 0);
  const BackendStep step{.slices = slices_,
                         .token_ids = token_ids_,
                         .positions = positions_,
                         .logit_tokens = logit_tokens_,
                         .token_alone = token_alone_,
                         .draws = draws_,
                         .follows = follows_,
                         .lists = recording_ ? &recorded_ : nullptr,
                         .statistics = &statistics_};
  if (backend_->overlaps())
    backend_->launch(step);
  else
    result_ = backend_->run(step);
  ++statistics_.steps;
  statistics_.tokens += static_cast<std::int64_t>(token_ids_.size());
  add_seconds(began);
}

std::span<float> Runner::finish() {
  auto began = Clock::now();
  const BackendResult result = backend_->overlaps() ? backend_->finish(&statistics_) : result_;
  add_seconds(began);
  chosen_ = result.chosen;
  return result.logits;
}

void Runner::add_seconds(Clock::time_point began) {
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  statistics_.seconds += seconds;
  statistics_.other_seconds += seconds;
}

std::span<const std::int32_t> Runner::recorded(std::int64_t lane, std::int64_t layer, std::int64_t kv_head) const {
  return recorded_[static_cast<std::size_t>((lane * geometry_.layers + layer) * geometry_.kv_heads + kv_head)];
}

}  // namespace vortex::engine
