#include "engine/cuda/cuda_backend.h"

#include <vortex/error.h>

#include <algorithm>

#include "attention/cuda/stored.h"
#include "base/arithmetic.h"
#include "base/check.h"
#include "base/text.h"
#include "device/cuda/range.h"
#include "ir/program.h"

namespace vortex::engine {

using device::Direction;

namespace {

// Sequences of a captured step; others are rounded up.
constexpr int kBuckets[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256};
constexpr int kMovedPages = 256;  // of a layer, at a time
constexpr int kTableSlack = 64;   // physical pages of a flow page at most

// Vectors of a page in one layer, and their scales behind them.
std::int64_t vector_bytes(const attention::Geometry& g) {
  return g.kv_heads * g.page_size * g.stored_channels() * g.element_bytes();
}
std::int64_t scales_of(const attention::Geometry& g) { return g.in_bytes() ? g.kv_heads * 2 * g.page_size : 0; }

vortex_geometry shape_of(const attention::Geometry& g) {
  return {static_cast<int>(g.kv_heads),
          static_cast<int>(g.group),
          static_cast<int>(g.head_dim),
          static_cast<int>(g.page_size),
          g.scale,
          static_cast<int>(g.value_dim),
          g.values_in_keys ? 1 : 0};
}

EngineConfig checked(const EngineConfig& config) {
  if (config.max_batch > models::CudaDecoder::kMostRows)
    throw UserError("engine", concat("a max_batch of at most ", models::CudaDecoder::kMostRows, " on cuda"),
                    std::to_string(config.max_batch), "lower max_batch");
  return config;
}

}  // namespace

CudaBackend::CudaBackend(std::shared_ptr<models::CudaDecoder> model, const EngineConfig& config,
                         const attention::Geometry& geometry)
    : model_(std::move(model)),
      device_(model_->device()),
      config_(checked(config)),
      geometry_(geometry),
      shape_(shape_of(geometry)),
      page_elements_(ceil_div(vector_bytes(geometry) + 4 * scales_of(geometry), 16) * 8),
      stream_(device_->make_stream()),
      prefill_(*device_, shape_, attention::dtype_of(geometry.kv_type)),
      chain_(*device_, shape_, attention::dtype_of(geometry.kv_type)),
      dense_(
          *device_,
          ir::Geometry{
              .page_size = geometry.page_size, .head_dim = geometry.head_dim, .group = geometry.group, .value_dim = 0},
          attention::dtype_of(geometry.kv_type)),
      kernels_(*device_) {
  most_sequences_ = bucket(config_.max_batch);
  const auto tokens = static_cast<int>(std::max<std::int64_t>(config_.chunk_tokens, most_sequences_));
  model_->reserve(tokens, static_cast<int>(config_.max_context));
  table_stride_ = static_cast<int>(ceil_div(config_.max_context, geometry_.page_size)) + kTableSlack;
  const std::int64_t width = geometry_.kv_heads * geometry_.group * geometry_.head_dim;
  inputs_ = {device_, 2 * most_sequences_ + 1 + (most_sequences_ + 1) / 2};
  inputs_host_.resize(static_cast<std::size_t>(inputs_.count()));
  for (Launched& it : launched_) {
    it.chosen = {device_, models::CudaDecoder::kMostRows};
    it.counted = {device_, 2};
    it.done = device_->make_event();
  }
  carried_host_.resize(static_cast<std::size_t>(most_sequences_));
  carried_ = {device_, most_sequences_};
  const std::int64_t tables = static_cast<std::int64_t>(most_sequences_) * table_stride_;
  tables_host_.assign(static_cast<std::size_t>(tables), 0);
  tables_ = {device_, tables};
  tables_.fill(*stream_, 0);
  chunk_host_.resize(static_cast<std::size_t>(2 * tokens + most_sequences_));
  chunk_ = {device_, 2 * tokens + most_sequences_};
  draws_ = {device_, models::CudaDecoder::kMostRows};
  draws_host_.resize(models::CudaDecoder::kMostRows);
  q_ = {device_, tokens * width};
  partial_ = {device_, attention::CudaChain::partial_floats(shape_, most_sequences_, config_.max_context)};
  counted_ = {device_, 2};
  log_ = {device_, kAhead * most_sequences_};
  log_host_ = {device_, kAhead * most_sequences_};
  fed_host_ = {device_, (kAhead + 1) * most_sequences_};
  block_ = {device_, kMovedPages * page_elements_};
  logits_ = {device_, config_.max_batch * model_->config().vocabulary};
  chosen_.resize(static_cast<std::size_t>(config_.max_batch));
  stream_->synchronize();
}

// What is on its way reads and writes memory that goes with this.
CudaBackend::~CudaBackend() {
  try {
    stream_->synchronize();
  } catch (const Error&) {  // said where the step is finished
  }
}

std::int64_t CudaBackend::available_bytes() const { return device_->free_bytes() / 100 * 92; }

std::unique_ptr<CudaFlow> CudaBackend::make_flow(const std::shared_ptr<device::Device>& device,
                                                 const ir::Program& program, const attention::Geometry& geometry,
                                                 int sequences, std::int64_t tokens) {
  if (program.config.page_size > kTableSlack * geometry.page_size)
    throw UserError(program.name,
                    concat("a page_size of at most ", kTableSlack * geometry.page_size, " tokens on cuda, ",
                           kTableSlack, " of the engine's pages"),
                    std::to_string(program.config.page_size), "lower the flow's page_size, or raise the engine's");
  const ir::Geometry made_for{.page_size = program.config.page_size,
                              .head_dim = geometry.head_dim,
                              .group = geometry.group,
                              .value_dim = geometry.value_dim};
  ir::require_weights(program, made_for, geometry.layers, geometry.kv_heads);
  for (const ir::LayerFlow& other : program.others)
    ir::require_weights(*other.flow, made_for, geometry.layers, geometry.kv_heads);
  return std::make_unique<CudaFlow>(device, program, geometry, sequences, static_cast<int>(tokens));
}

void CudaBackend::build_ahead(const ir::Program& program) const {
  make_flow(device::builder_for(device_), program, geometry_, most_sequences_, config_.max_context);
}

std::int64_t CudaBackend::compile(int number, const ir::Program& program) {
  const auto index = static_cast<std::size_t>(number);
  auto made = make_flow(device_, program, geometry_, most_sequences_, config_.max_context);
  if (flows_.size() <= index) flows_.resize(index + 1);
  flows_[index] = std::move(made);
  return flows_[index]->page_bytes();
}

void CudaBackend::forget(int number) {
  std::erase_if(graphs_, [&](const auto& it) { return std::get<0>(it.first) == number; });
  if (static_cast<std::size_t>(number) < flows_.size()) flows_[static_cast<std::size_t>(number)].reset();
}

attention::CarriedLayout CudaBackend::carried(int number) const { return flow(number)->carried(); }

CudaFlow* CudaBackend::flow(int number) const {
  return number == kFullAttention ? nullptr : flows_[static_cast<std::size_t>(number)].get();
}

void CudaBackend::allocate(std::int64_t pages) {
  pool_ = {};  // of an attempt that failed
  pool_ = {device_, geometry_.layers * (pages + 1) * page_elements_};
  pool_.fill(*stream_, 0);
  page_list_ = {device_, std::max<std::int64_t>(pages, kMovedPages)};
  stream_->synchronize();
  pages_ = pages;
  for (const auto& it : flows_)
    if (it) it->allocate(pages);
}

void CudaBackend::allocate_summaries(int number) { flow(number)->allocate(pages_); }

std::int64_t CudaBackend::summary_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& it : flows_)
    if (it) bytes += it->bytes();
  return bytes;
}

vortex_kv CudaBackend::kv(int layer) const {
  auto* const k = reinterpret_cast<std::byte*>(pool_.data() + layer * (pages_ + 1) * page_elements_);
  const std::int64_t element = geometry_.element_bytes(), page = 2 * page_elements_ / element;
  const std::int64_t plane = geometry_.page_size * geometry_.head_dim;
  vortex_kv out{attention::dtype_of(geometry_.kv_type),
                {k, page, 2 * plane, geometry_.head_dim},
                {k + plane * element, page, 2 * plane, geometry_.head_dim},
                {},
                {}};
  if (geometry_.in_bytes()) {
    auto* const scales = reinterpret_cast<float*>(k + vector_bytes(geometry_));
    out.k_scales = {scales, page_elements_ / 2, 2 * geometry_.page_size};
    out.v_scales = {scales + geometry_.page_size, page_elements_ / 2, 2 * geometry_.page_size};
  }
  return out;
}

void CudaBackend::invalidate(kv::Page page) {
  for (const auto& it : flows_)
    if (it) it->invalidate(page);
}

void CudaBackend::copy(kv::Page from, kv::Page to) {
  for (int layer = 0; layer < geometry_.layers; ++layer) {
    unsigned short* const base = static_cast<unsigned short*>(kv(layer).k.base);
    stream_->copy(base + to * page_elements_, base + from * page_elements_, 2 * page_elements_, Direction::on_device);
  }
}

void CudaBackend::move(std::span<const kv::Page> pages, std::byte* host, bool to_pool) const {
  for (int layer = 0; layer < geometry_.layers; ++layer)
    for (std::size_t done = 0; done < pages.size(); done += kMovedPages) {
      const auto part = pages.subspan(done, std::min<std::size_t>(kMovedPages, pages.size() - done));
      const auto count = static_cast<std::int64_t>(part.size()), bytes = 2 * count * page_elements_;
      stream_->copy(page_list_.data(), part.data(), 4 * count, Direction::to_device);
      if (to_pool) stream_->copy(block_.data(), host, bytes, Direction::to_device);
      kernels_.move_pages(*stream_,
                          {static_cast<unsigned short*>(kv(layer).k.base), block_.data(), page_list_.data(),
                           page_elements_, to_pool ? 1 : 0},
                          count);
      if (!to_pool) stream_->copy(host, block_.data(), bytes, Direction::to_host);
      stream_->synchronize();  // what was copied may change
      host += bytes;
    }
}

void CudaBackend::save(std::span<const kv::Page> pages, std::byte* to) const { move(pages, to, false); }

void CudaBackend::restore(std::span<const kv::Page> pages, const std::byte* from) {
  move(pages, const_cast<std::byte*>(from), true);
}

void CudaBackend::fill(std::span<const kv::Page> pages, std::uint64_t seed) {
  const auto count = static_cast<std::int64_t>(pages.size());
  stream_->copy(page_list_.data(), pages.data(), 4 * count, Direction::to_device);
  const int kind = !geometry_.in_bytes() ? 0 : geometry_.kv_type == attention::KvType::int8 ? 1 : 2;
  kernels_.random_pages(*stream_,
                        {pool_.data(), (pages_ + 1) * page_elements_, page_elements_, kind, vector_bytes(geometry_),
                         scales_of(geometry_), page_list_.data(), seed},
                        count, static_cast<int>(geometry_.layers));
  stream_->synchronize();
}

// Deterministic: every step has the size of the largest, so what a sequence is given depends on nobody else.
int CudaBackend::bucket(std::int64_t sequences) const {
  if (config_.deterministic && most_sequences_ > 0) return most_sequences_;
  return *std::ranges::find_if(kBuckets, [&](int it) { return it >= sequences; });
}

device::Graph& CudaBackend::graph(const GraphKey& key) {
  const auto number = std::get<0>(key), sequences = std::get<1>(key);
  const bool keep = std::get<3>(key);
  CudaFlow* const flow = this->flow(number);
  if (keep && !flow->keeps_lists()) {  // its lists move: what was captured over them goes
    std::erase_if(graphs_, [&](const auto& it) { return std::get<0>(it.first) == number; });
    flow->keep_lists();
  }
  std::unique_ptr<device::Graph>& out = graphs_[key];
  if (out) return *out;
  const device::CudaRange range("vortex capture");
  model_->prepare((sequences + 7) / 8 * 8);
  stream_->synchronize();
  stream_->begin_capture();
  try {
    put_step(*stream_, key);
  } catch (...) {
    try {
      stream_->end_capture();  // what there is of it goes; the stream serves again
    } catch (const Error&) {
    }
    throw;
  }
  out = stream_->end_capture();
  return *out;
}

}  // namespace vortex::engine
