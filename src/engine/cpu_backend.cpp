#include "engine/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/memory.h"
#include "compiler/plan.h"
#include "engine/sampler.h"
#include "models/model.h"

namespace vortex::engine {

namespace {

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
  Recorder(attention::CpuStep& step, std::int64_t slices, const attention::Geometry& geometry, PageLists& lists)
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
  PageLists& lists_;
};

}  // namespace

CpuBackend::CpuBackend(std::shared_ptr<models::Model> model, const EngineConfig& config,
                       const attention::Geometry& geometry, ThreadPool& threads)
    : model_(std::move(model)), geometry_(geometry), threads_(threads) {
  if (geometry.kv_type == attention::KvType::fp8)
    throw UserError("engine", "kv_dtype bf16 or int8 on the cpu", "fp8",
                    "store K and V as int8, which takes as many bytes, or run on a device");
  logits_.resize(static_cast<std::size_t>(config.max_batch * model_->config().vocabulary));
}

std::int64_t CpuBackend::available_bytes() const { return available_memory() / 5 * 4; }

std::int64_t CpuBackend::compile(int number, const ir::Program& program) {
  ir::Geometry geometry{.page_size = program.config.page_size,
                        .head_dim = geometry_.head_dim,
                        .group = geometry_.group,
                        .value_dim = geometry_.value_dim};
  ir::verify(program, geometry);
  ir::require_weights(program, geometry, geometry_.layers, geometry_.kv_heads);
  for (const ir::LayerFlow& other : program.others)
    ir::require_weights(*other.flow, geometry, geometry_.layers, geometry_.kv_heads);
  const compiler::Plan plan = compiler::compile(program, geometry);
  const auto index = static_cast<std::size_t>(number), count = program.others.size() + 1;
  std::vector<attention::LoadedFlow> loaded(count);
  loaded[0] = {.flow = codegen::CpuFlow::build(plan), .config = program.config};
  std::vector<std::int32_t> of(static_cast<std::size_t>(geometry_.layers), 0);  // layer → place in `loaded`
  for (std::size_t i = 1; i < count; ++i) {
    const ir::LayerFlow& other = program.others[i - 1];
    loaded[i] = {.flow = codegen::CpuFlow::build(*plan.others[i - 1].plan), .config = other.flow->config};
    for (std::int64_t layer : other.layers) of[static_cast<std::size_t>(layer)] = static_cast<std::int32_t>(i);
  }
  if (count > 1) {
    std::vector<std::int32_t> taken(count, 0);  // layers of each so far
    for (attention::LoadedFlow& each : loaded) {
      each.arena_layer.assign(of.size(), 0);
      each.first_state = static_cast<std::int64_t>(loaded[0].states.size());
      loaded[0].states.insert(loaded[0].states.end(), each.flow->states().begin(), each.flow->states().end());
    }
    for (std::size_t layer = 0; layer < of.size(); ++layer) {
      const auto i = static_cast<std::size_t>(of[layer]);
      loaded[i].arena_layer[layer] = taken[i]++;
      loaded[0].by_layer.push_back(number + of[layer]);
    }
  }
  if (flows_.size() < index + count) flows_.resize(index + count), arenas_.resize(index + count);
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    bytes +=
        attention::SummaryArena::bytes_for(loaded[i].flow->fields(), arena_layers(loaded[i]), 1, geometry_.kv_heads);
    flows_[index + i] = std::move(loaded[i]);
  }
  return bytes;
}

// An arena holds the layers in which its flow works.
std::int64_t CpuBackend::arena_layers(const attention::LoadedFlow& loaded) const {
  const std::vector<std::int32_t>& at = loaded.arena_layer;
  return at.empty() ? geometry_.layers : *std::max_element(at.begin(), at.end()) + 1;
}

void CpuBackend::forget(int number) {
  auto index = static_cast<std::size_t>(number), last = index;
  if (index >= flows_.size()) return;
  for (std::int32_t other : flows_[index].by_layer) last = std::max(last, static_cast<std::size_t>(other));
  for (; index <= last; ++index) {
    flows_[index] = {};
    arenas_[index].reset();
  }
}

void CpuBackend::allocate(std::int64_t pages) {
  memory_.reset();  // of an attempt that failed
  for (auto& arena : arenas_) arena.reset();
  memory_ = std::make_unique<KvMemory>(geometry_, pages);
  pages_ = pages;
  for (std::size_t flow = 0; flow < flows_.size(); ++flow)
    if (flows_[flow].flow) allocate_summaries(static_cast<int>(flow));
}

void CpuBackend::allocate_summaries(int number) {
  const attention::LoadedFlow& flow = flows_[static_cast<std::size_t>(number)];
  std::int32_t last = number;
  for (std::int32_t other : flow.by_layer) last = std::max(last, other);
  for (auto index = static_cast<std::size_t>(number); index <= static_cast<std::size_t>(last); ++index) {
    attention::LoadedFlow& it = flows_[index];
    if (it.flow->fields().empty() || arenas_[index]) continue;
    arenas_[index] =
        std::make_unique<attention::SummaryArena>(it.flow->fields(), arena_layers(it), pages_, geometry_.kv_heads);
    it.arena = arenas_[index].get();
  }
}

std::int64_t CpuBackend::summary_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& arena : arenas_)
    if (arena) bytes += arena->bytes();
  return bytes;
}

void CpuBackend::invalidate(kv::Page page) {
  for (auto& arena : arenas_)
    if (arena) arena->invalidate(page);
}

void CpuBackend::save(std::span<const kv::Page> pages, std::byte* to) const {
  const std::int64_t size = memory_->layer_page_bytes();
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer)
    for (kv::Page page : pages) {
      std::memcpy(to, memory_->page(layer, page), static_cast<std::size_t>(size));
      to += size;
    }
}

void CpuBackend::restore(std::span<const kv::Page> pages, const std::byte* from) {
  const std::int64_t size = memory_->layer_page_bytes();
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer)
    for (kv::Page page : pages) {
      std::memcpy(memory_->page(layer, page), from, static_cast<std::size_t>(size));
      from += size;
    }
}

void CpuBackend::fill(std::span<const kv::Page> pages, std::uint64_t seed) {
  // Normal numbers come from a table of quantiles, four a draw: filling must not take longer than measuring.
  constexpr std::size_t kQuantiles = 1 << 12;
  std::vector<BFloat16> quantiles(kQuantiles);
  std::vector<std::int8_t> integer_quantiles(kQuantiles);  // 32 times as much
  for (std::size_t i = 0; i < kQuantiles; ++i) {
    double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_of(1, i)));
    quantiles[i] = to_bfloat16(static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * uniform_of(2, i))));
    if (quantiles[i].bits << 1 == 0) quantiles[i] = to_bfloat16(1.0f);
    const float integer = std::nearbyint(32 * to_float(quantiles[i]));
    integer_quantiles[i] = static_cast<std::int8_t>(integer == 0 ? 1.0f : std::clamp(integer, -127.0f, 127.0f));
  }
  const auto count = static_cast<std::int64_t>(pages.size());
  threads_.for_each(geometry_.layers * count, [&](std::int64_t index, int) {
    const attention::Plane& k = memory_->views()[static_cast<std::size_t>(index / count)].k;
    const kv::Page page = pages[static_cast<std::size_t>(index % count)];
    // Heads of a page lie one after another, K and V of each; and so do their scales.
    const bool integers = geometry_.kv_type == attention::KvType::int8;
    if (integers) std::fill_n(k.scale_at(page, 0, 0), k.scale_head_stride * geometry_.kv_heads, 1.0f / 32);
    auto* narrow = integers ? k.at<std::int8_t>(page, 0, 0) : nullptr;
    auto* wide = integers ? nullptr : k.at<BFloat16>(page, 0, 0);
    std::uint64_t state =
        (seed + 1) * 0x9e3779b97f4a7c15ULL + (static_cast<std::uint64_t>(index) * 0xd1342543de82ef95ULL | 1);
    for (std::int64_t i = 0; i < geometry_.kv_heads * k.head_stride; ++i) {
      if (i % 4 == 0) {  // xorshift with a multiplier
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
      }
      const std::size_t draw = (state * 0x2545f4914f6cdd1dULL) >> (4 + 12 * (i % 4)) & (kQuantiles - 1);
      if (integers)
        narrow[i] = integer_quantiles[draw];
      else
        wide[i] = quantiles[draw];
    }
  });
}

BackendResult CpuBackend::run(const BackendStep& in) {
  attention::CpuStep step(geometry_, memory_->views(), flows_, in.slices, workspace_, threads_);
  models::StepInput input{.tokens = static_cast<std::int64_t>(in.token_ids.size()),
                          .token_ids = in.token_ids.data(),
                          .positions = in.positions.data(),
                          .logit_rows = static_cast<std::int64_t>(in.logit_tokens.size()),
                          .logit_tokens = in.logit_tokens.data(),
                          .logits = logits_.data()};
  if (in.lists) {
    Recorder recorder(step, static_cast<std::int64_t>(in.slices.size()), geometry_, *in.lists);
    model_->step(input, recorder, threads_);
  } else {
    model_->step(input, step, threads_);
  }
  if (in.statistics) add_statistics(step.statistics(), *in.statistics);
  const std::size_t size = in.logit_tokens.size() * static_cast<std::size_t>(model_->config().vocabulary);
  return {.logits = std::span(logits_).first(size), .chosen = {}};
}

void CpuBackend::add_statistics(const attention::StepStatistics& step, StepStatistics& sum) const {
  for (const auto& [part, of_step] : kAttentionSeconds) {
    sum.*part += step.*of_step;
    sum.other_seconds -= step.*of_step;
  }
  for (const attention::LayerCounts& layer : step.layers) {
    sum.rows += layer.rows;
    sum.sparse_rows += layer.sparse_rows;
    sum.reused_rows += layer.reused_rows;
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

}  // namespace vortex::engine
