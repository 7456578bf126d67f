#include "engine/cuda/cuda_backend.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/arithmetic.h"
#include "base/check.h"
#include "base/text.h"
#include "ir/program.h"

namespace vortex::engine {

using attention::CudaLayer;
using attention::CudaLayerTokens;
using attention::Slice;
using device::Direction;

namespace {

// Sequences of a captured step; others are rounded up.
constexpr int kBuckets[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256};
constexpr int kLeastLongest = 1024;  // tokens
constexpr int kMovedPages = 256;     // of a layer, at a time
constexpr int kTableSlack = 64;      // physical pages of a flow page at most

vortex_geometry shape_of(const attention::Geometry& g) {
  if (g.kv_type != attention::KvType::bfloat16)
    throw UserError("engine", "kv_dtype bf16 on cuda", attention::name_of(g.kv_type),
                    "store K and V as bf16, or run this model on the cpu");
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

// Prompt chunks: the tokens of each lane in turn, over the lane's own pages.
class CudaBackend::PrefillAttention final : public attention::CudaLayerAttention {
 public:
  PrefillAttention(CudaBackend& backend, std::span<const Slice* const> lanes, const int* lengths)
      : backend_(backend), lanes_(lanes), lengths_(lengths) {}

  void run(device::Stream& stream, const CudaLayerTokens& in) override {
    const CudaBackend& b = backend_;
    const std::int64_t width = b.geometry_.kv_heads * b.geometry_.group * b.geometry_.head_dim;
    int first = 0;
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
      const int count = lanes_[lane]->token_count;
      const int* pages = b.tables_.data() + static_cast<std::ptrdiff_t>(lane) * b.table_stride_;
      // A new token is a sequence of its own to the kernel that stores it; all of them have one page table.
      const CudaLayer layer{.geometry = b.shape_,
                            .kv = b.kv(in.layer),
                            .batch = {count, pages, 0, lengths_ + first, nullptr, nullptr},
                            .q = b.q_.data() + first * width,
                            .q_stride = width,
                            .layer = in.layer,
                            .layers = static_cast<int>(b.geometry_.layers)};
      b.dense_.prepare(stream, layer, {},
                       {.qkv = in.qkv + first * in.stride,
                        .stride = in.stride,
                        .q_norm = in.q_norm,
                        .k_norm = in.k_norm,
                        .rotation = in.rotation,
                        .epsilon = in.epsilon,
                        .bias = in.bias});
      b.prefill_.attend(stream, layer,
                        {.pages = pages,
                         .context = lanes_[lane]->context,
                         .count = count,
                         .operand = in.operand,
                         .operand_rows = in.operand_rows,
                         .first = first});
      first += count;
    }
  }

 private:
  CudaBackend& backend_;
  std::span<const Slice* const> lanes_;
  const int* lengths_;
};

// One new token a sequence, through a flow or over all pages; sizes are those of the graph.
class CudaBackend::DecodeAttention final : public attention::CudaLayerAttention {
 public:
  DecodeAttention(CudaBackend& backend, CudaFlow* flow, const vortex_batch& batch, std::int64_t longest, bool keep)
      : backend_(backend), flow_(flow), batch_(batch), longest_(longest), keep_(keep) {}

  void run(device::Stream& stream, const CudaLayerTokens& in) override {
    const CudaBackend& b = backend_;
    const CudaLayer layer{.geometry = b.shape_,
                          .kv = b.kv(in.layer),
                          .batch = batch_,
                          .q = b.q_.data(),
                          .q_stride = b.geometry_.kv_heads * b.geometry_.group * b.geometry_.head_dim,
                          .layer = in.layer,
                          .layers = static_cast<int>(b.geometry_.layers)};
    const auto fields = flow_ ? flow_->fields(in.layer) : std::vector<vortex_field>();
    const attention::CudaNewTokens tokens{.qkv = in.qkv,
                                          .stride = in.stride,
                                          .q_norm = in.q_norm,
                                          .k_norm = in.k_norm,
                                          .rotation = in.rotation,
                                          .epsilon = in.epsilon,
                                          .bias = in.bias};
    attention::CudaLists lists{batch_.page_tables, batch_.page_table_stride, batch_.tokens, false};
    std::int64_t longest = longest_;
    if (flow_ && flow_->is_sparse(in.layer)) {
      const attention::CudaSelection selection = flow_->selection(in.layer, keep_);
      flow_->kernels().prepare_and_select(stream, layer, fields, tokens, flow_->scores(longest_), selection);
      lists = selection.attended();
      longest = std::min(longest_, flow_->budget(longest_) * flow_->config().page_size);
    } else {
      (flow_ ? flow_->kernels() : b.dense_).prepare(stream, layer, fields, tokens);
    }
    b.chain_.attend(stream, layer, lists, longest, b.partial_.data(),
                    {.out = nullptr, .operand = in.operand, .operand_rows = in.operand_rows});
  }

 private:
  CudaBackend& backend_;
  CudaFlow* flow_;
  vortex_batch batch_;
  std::int64_t longest_;
  bool keep_;
};

CudaBackend::CudaBackend(std::shared_ptr<models::CudaDecoder> model, const EngineConfig& config,
                         const attention::Geometry& geometry)
    : model_(std::move(model)),
      device_(model_->device()),
      config_(checked(config)),
      geometry_(geometry),
      shape_(shape_of(geometry)),
      page_elements_(geometry.kv_heads * 2 * geometry.page_size * geometry.head_dim),
      stream_(device_->make_stream()),
      prefill_(*device_, shape_),
      chain_(*device_, shape_),
      dense_(
          *device_,
          ir::Geometry{
              .page_size = geometry.page_size, .head_dim = geometry.head_dim, .group = geometry.group, .value_dim = 0}),
      kernels_(*device_) {
  most_sequences_ = bucket(config_.max_batch);
  const auto tokens = static_cast<int>(std::max<std::int64_t>(config_.chunk_tokens, most_sequences_));
  model_->reserve(tokens, static_cast<int>(config_.max_context));
  table_stride_ = static_cast<int>(ceil_div(config_.max_context, geometry_.page_size)) + kTableSlack;
  const std::int64_t width = geometry_.kv_heads * geometry_.group * geometry_.head_dim;
  inputs_host_.resize(static_cast<std::size_t>(2 * most_sequences_ + 1));
  inputs_ = {device_, 2 * most_sequences_ + 1};
  tables_host_.assign(static_cast<std::size_t>(most_sequences_ * table_stride_), 0);
  tables_ = {device_, most_sequences_ * table_stride_};
  tables_.fill(*stream_, 0);
  chunk_host_.resize(static_cast<std::size_t>(2 * tokens + most_sequences_));
  chunk_ = {device_, 2 * tokens + most_sequences_};
  q_ = {device_, tokens * width};
  partial_ = {device_, attention::CudaChain::partial_floats(shape_, most_sequences_, config_.max_context)};
  counted_ = {device_, 2};
  block_ = {device_, kMovedPages * page_elements_};
  logits_ = {device_, config_.max_batch * model_->config().vocabulary};
  walk_chosen_ = {device_, models::CudaDecoder::kMostRows};
  walk_counted_ = {device_, 2};
  chosen_.resize(static_cast<std::size_t>(config_.max_batch));
  stream_->synchronize();
}

CudaBackend::~CudaBackend() = default;

std::int64_t CudaBackend::available_bytes() const { return device_->free_bytes() / 100 * 92; }

std::int64_t CudaBackend::compile(int number, const ir::Program& program) {
  if (program.config.page_size > kTableSlack * geometry_.page_size)
    throw UserError(program.name,
                    concat("a page_size of at most ", kTableSlack * geometry_.page_size, " tokens on cuda, ",
                           kTableSlack, " of the engine's pages"),
                    std::to_string(program.config.page_size), "lower the flow's page_size, or raise the engine's");
  const auto index = static_cast<std::size_t>(number);
  auto made =
      std::make_unique<CudaFlow>(device_, program, geometry_, most_sequences_, static_cast<int>(config_.max_context));
  if (flows_.size() <= index) flows_.resize(index + 1);
  flows_[index] = std::move(made);
  return flows_[index]->page_bytes();
}

void CudaBackend::forget(int number) {
  std::erase_if(graphs_, [&](const auto& it) { return std::get<0>(it.first) == number; });
  if (static_cast<std::size_t>(number) < flows_.size()) flows_[static_cast<std::size_t>(number)].reset();
}

CudaFlow* CudaBackend::flow(int number) const {
  return number == kFullAttention ? nullptr : flows_[static_cast<std::size_t>(number)].get();
}

void CudaBackend::allocate(std::int64_t pages) {
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
  unsigned short* const k = pool_.data() + layer * (pages_ + 1) * page_elements_;
  const std::int64_t plane = geometry_.page_size * geometry_.head_dim;
  return {VORTEX_BFLOAT16,
          {k, page_elements_, 2 * plane, geometry_.head_dim},
          {k + plane, page_elements_, 2 * plane, geometry_.head_dim},
          {},
          {}};
}

void CudaBackend::invalidate(kv::Page page) {
  for (const auto& it : flows_)
    if (it) it->set_valid(page, false);
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
  kernels_.random_pages(*stream_,
                        {pool_.data(), (pages_ + 1) * page_elements_, page_elements_, page_list_.data(), seed}, count,
                        static_cast<int>(geometry_.layers));
  stream_->synchronize();
}

// ---- A step ----

int CudaBackend::bucket(std::int64_t sequences) const {
  return *std::ranges::find_if(kBuckets, [&](int it) { return it >= sequences; });
}

int CudaBackend::longest_of(std::int64_t tokens) const {
  std::int64_t out = kLeastLongest;
  while (out < tokens) out *= 2;
  return static_cast<int>(std::min(out, config_.max_context));
}

BackendResult CudaBackend::run(const BackendStep& in) {
  if (in.lists)
    for (auto& list : *in.lists) list.clear();               // all pages, until a flow says otherwise
  if (generation_ != model_->generation()) graphs_.clear();  // another engine made the model's buffers anew
  generation_ = model_->generation();
  std::vector<const Slice*> chunks;
  std::map<int, std::vector<const Slice*>> decoding;  // by flow
  for (const Slice& slice : in.slices) {
    if (slice.sparse && slice.flow != kFullAttention)
      decoding[slice.flow].push_back(&slice);
    else if (slice.token_count == 1)
      decoding[kFullAttention].push_back(&slice);
    else
      chunks.push_back(&slice);
    // What is written makes summaries of its pages wrong.
    for (std::int64_t page = slice.context / geometry_.page_size; page < slice.page_count; ++page)
      invalidate(slice.page_table[page]);
  }
  if (!chunks.empty()) prefill(in, chunks);
  for (const auto& [number, slices] : decoding) decode(in, number, slices);
  const std::size_t rows = in.logit_tokens.size();
  return {.logits = {logits_.data(), rows * static_cast<std::size_t>(model_->config().vocabulary)},
          .chosen = std::span(chosen_).first(rows)};
}

// Rows of the device's page tables, those that changed.
void CudaBackend::put_tables(std::span<const Slice* const> slices, int sequences) {
  struct Range {
    std::int64_t begin, count;
  };
  std::vector<Range> changed;
  const auto put = [&](int lane, const std::int32_t* pages, std::int64_t count) {
    std::int32_t* row = tables_host_.data() + static_cast<std::ptrdiff_t>(lane) * table_stride_;
    const auto [first, unused] = std::mismatch(row, row + count, pages);
    if (first == row + count) return;
    std::copy(pages + (first - row), pages + count, first);
    changed.push_back({first - tables_host_.data(), row + count - first});
  };
  const auto nobody = static_cast<std::int32_t>(pages_);
  for (int lane = 0; lane < sequences; ++lane) {
    if (lane < static_cast<int>(slices.size()))
      put(lane, slices[static_cast<std::size_t>(lane)]->page_table, slices[static_cast<std::size_t>(lane)]->page_count);
    else
      put(lane, &nobody, 1);
  }
  constexpr std::size_t kMostCopies = 16;
  if (changed.size() > kMostCopies) changed = {{0, static_cast<std::int64_t>(sequences) * table_stride_}};
  for (const Range& range : changed)
    stream_->copy(tables_.data() + range.begin, tables_host_.data() + range.begin, 4 * range.count,
                  Direction::to_device);
}

void CudaBackend::prefill(const BackendStep& in, std::span<const Slice* const> slices) {
  put_tables(slices, static_cast<int>(slices.size()));
  std::int32_t *ids = chunk_host_.data(), tokens = 0;
  for (const Slice* slice : slices) tokens += slice->token_count;
  std::int32_t *lengths = ids + tokens, *rows = lengths + tokens;
  std::vector<std::int32_t> wanted;
  std::int32_t first = 0;
  for (const Slice* slice : slices) {
    for (std::int32_t i = 0; i < slice->token_count; ++i) {
      ids[first + i] = in.token_ids[static_cast<std::size_t>(slice->first_token + i)];
      lengths[first + i] = slice->context + i + 1;
    }
    first += slice->token_count;
    if (const std::int32_t row = logit_row(in, *slice); row >= 0) {
      rows[wanted.size()] = first - 1;
      wanted.push_back(row);
    }
  }
  stream_->copy(chunk_.data(), chunk_host_.data(), 4 * (2 * tokens + static_cast<std::int64_t>(wanted.size())),
                Direction::to_device);
  PrefillAttention attention(*this, slices, chunk_.data() + tokens);
  model_->walk(*stream_,
               {.tokens = chunk_.data(),
                .count = tokens,
                .rows = models::CudaDecoder::kMostRows,
                .logit_tokens = chunk_.data() + 2 * tokens,
                .logit_rows = static_cast<int>(wanted.size())},
               attention);
  take(in, wanted);
}

std::int32_t CudaBackend::logit_row(const BackendStep& in, const Slice& slice) const {
  const std::int32_t last = slice.first_token + slice.token_count - 1;
  const auto found = std::ranges::lower_bound(in.logit_tokens, last);
  return found == in.logit_tokens.end() || *found != last ? -1
                                                          : static_cast<std::int32_t>(found - in.logit_tokens.begin());
}

void CudaBackend::decode(const BackendStep& in, int number, std::span<const Slice* const> slices) {
  CudaFlow* const flow = this->flow(number);
  const int sequences = bucket(static_cast<std::int64_t>(slices.size()));
  std::int64_t most_tokens = 1;
  std::vector<std::int32_t> wanted;
  auto* const ids = reinterpret_cast<std::int32_t*>(inputs_host_.data());
  std::int32_t* const lengths = ids + most_sequences_;
  std::int64_t* const steps = inputs_host_.data() + most_sequences_;
  for (int lane = 0; lane < sequences; ++lane) {
    const bool real = lane < static_cast<int>(slices.size());
    const Slice* const slice = real ? slices[static_cast<std::size_t>(lane)] : nullptr;
    ids[lane] = real ? in.token_ids[static_cast<std::size_t>(slice->first_token)] : 0;
    lengths[lane] = real ? slice->context + 1 : 1;
    steps[lane] = real ? slice->step : 0;
    most_tokens = std::max<std::int64_t>(most_tokens, lengths[lane]);
    if (real) wanted.push_back(logit_row(in, *slice));
  }
  steps[most_sequences_] = static_cast<std::int64_t>(slices.size());
  put_tables(slices, sequences);
  if (flow) rebuild(*flow, slices, in.statistics);
  device::Graph& captured = graph({number, sequences, longest_of(most_tokens), in.lists != nullptr && flow != nullptr});
  stream_->copy(inputs_.data(), inputs_host_.data(), 8 * (2 * most_sequences_ + 1), Direction::to_device);
  stream_->launch(captured);
  if (flow) stream_->copy(walk_counted_.data(), counted_.data(), 16, Direction::to_host);
  take(in, wanted);
  if (flow)
    for (const Slice* slice : slices)
      if ((slice->context + 1) % flow->config().page_size == 0)
        flow->set_valid(slice->page_table[(slice->context + 1) / geometry_.page_size - 1], true);
  if (in.statistics) count(flow, slices, *in.statistics);
  if (in.lists && flow) keep_lists(*flow, slices, in);
}

device::Graph& CudaBackend::graph(const GraphKey& key) {
  const auto [number, sequences, longest, keep] = key;
  CudaFlow* const flow = this->flow(number);
  if (keep && !flow->keeps_lists()) {  // its lists move: what was captured over them goes
    std::erase_if(graphs_, [&](const auto& it) { return std::get<0>(it.first) == number; });
    flow->keep_lists();
  }
  std::unique_ptr<device::Graph>& out = graphs_[key];
  if (out) return *out;
  const int rows = (sequences + 7) / 8 * 8;
  model_->prepare(rows);
  auto* const ids = reinterpret_cast<int*>(inputs_.data());
  const vortex_batch batch{
      sequences, tables_.data(), table_stride_, ids + most_sequences_, nullptr, inputs_.data() + most_sequences_};
  stream_->synchronize();
  stream_->begin_capture();
  if (flow) chain_.plan(*stream_, batch, &flow->planned(), 0, nullptr, flow->plans());
  DecodeAttention attention(*this, flow, batch, longest, keep);
  model_->walk(*stream_, {.tokens = ids, .count = sequences, .rows = rows, .logit_rows = sequences}, attention);
  if (flow)
    kernels_.count_lists(
        *stream_, {flow->counts(), flow->listed(), reinterpret_cast<const int*>(inputs_.data() + 2 * most_sequences_),
                   static_cast<int>(geometry_.layers), static_cast<int>(flow->lists()),
                   static_cast<int>(geometry_.kv_heads), reinterpret_cast<long long*>(counted_.data())});
  out = stream_->end_capture();
  return *out;
}

// Summaries that scoring will read and that are not there: pages prefilled, restored or shared from elsewhere.
void CudaBackend::rebuild(CudaFlow& flow, std::span<const Slice* const> slices, StepStatistics* statistics) {
  if (!flow.has_score() || flow.kernels().flow().fields.empty()) return;
  const std::int64_t page_size = flow.config().page_size, physical = page_size / geometry_.page_size;
  std::vector<std::int32_t> ends;
  std::vector<std::size_t> first{0};  // of each lane
  for (const Slice* slice : slices) {
    const ir::RowPages row = ir::row_pages(flow.planned(), true, ceil_div(slice->context + 1, page_size));
    if (row.selects())
      for (std::int64_t page = row.first; page < row.first + row.candidates; ++page) {
        const kv::Page home = slice->page_table[(page + 1) * physical - 1];
        if (flow.is_valid(home)) continue;
        flow.set_valid(home, true);
        ends.push_back(static_cast<std::int32_t>((page + 1) * page_size));
      }
    first.push_back(ends.size());
  }
  if (ends.empty()) return;
  stream_->copy(page_list_.data(), ends.data(), 4 * static_cast<std::int64_t>(ends.size()), Direction::to_device);
  constexpr std::size_t kMostBlocks = 32768;
  for (int number = 0; number < geometry_.layers; ++number) {
    const auto fields = flow.fields(number);
    for (std::size_t lane = 0; lane < slices.size(); ++lane)
      for (std::size_t done = first[lane]; done < first[lane + 1]; done += kMostBlocks) {
        const auto count = static_cast<int>(std::min(kMostBlocks, first[lane + 1] - done));
        const CudaLayer layer{.geometry = shape_,
                              .kv = kv(number),
                              .batch = {count, tables_.data() + static_cast<std::ptrdiff_t>(lane) * table_stride_, 0,
                                        page_list_.data() + done, nullptr, nullptr},
                              .layer = number,
                              .layers = static_cast<int>(geometry_.layers)};
        flow.kernels().summarize(*stream_, layer, fields);
      }
  }
  stream_->synchronize();  // `ends` goes
  if (statistics) statistics->rebuilt_summaries += static_cast<std::int64_t>(ends.size());
}

void CudaBackend::take(const BackendStep& in, std::span<const std::int32_t> wanted) {
  const std::int64_t vocabulary = model_->config().vocabulary;
  const auto rows = static_cast<std::int64_t>(wanted.size());
  stream_->copy(walk_chosen_.data(), model_->chosen(), rows * static_cast<std::int64_t>(sizeof(cuda::ChosenToken)),
                Direction::to_host);
  const auto copied = [&](std::int64_t row) {
    const std::int32_t to = wanted[static_cast<std::size_t>(row)];
    return to >= 0 && in.greedy[static_cast<std::size_t>(to)] == 0;
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    if (!copied(row)) continue;
    const std::int32_t to = wanted[static_cast<std::size_t>(row)];
    std::int64_t count = 1;  // rows that follow one another on both sides
    while (row + count < rows && copied(row + count) && wanted[static_cast<std::size_t>(row + count)] == to + count)
      ++count;
    stream_->copy(logits_.data() + to * vocabulary, model_->logits() + row * vocabulary, 4 * count * vocabulary,
                  Direction::to_host);
    row += count - 1;
  }
  stream_->synchronize();
  for (std::int64_t row = 0; row < rows; ++row)
    if (const std::int32_t to = wanted[static_cast<std::size_t>(row)]; to >= 0)
      chosen_[static_cast<std::size_t>(to)] = {walk_chosen_.data()[row].token, walk_chosen_.data()[row].logprob};
}

// Rows and candidates follow from the lengths; what sparse layers attended was counted on the device.
void CudaBackend::count(const CudaFlow* flow, std::span<const Slice* const> slices, StepStatistics& sum) const {
  const std::int64_t heads = geometry_.kv_heads;
  std::int64_t sparse_layers = 0;
  if (flow)
    for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) sparse_layers += flow->is_sparse(layer);
  const std::int64_t full_layers = geometry_.layers - sparse_layers;
  std::int64_t tokens = 0;
  for (const Slice* slice : slices) {
    const std::int64_t length = slice->context + 1;
    sum.rows += geometry_.layers * heads;
    sum.attended_pages +=
        full_layers * heads * ceil_div(length, flow ? flow->config().page_size : geometry_.page_size);
    tokens += full_layers * heads * length;
    if (!flow) continue;
    const std::int64_t page_size = flow->config().page_size;
    const ir::RowPages row = ir::row_pages(flow->planned(), flow->has_score(), ceil_div(length, page_size));
    (row.selects() ? sum.sparse_rows : sum.covered_rows) += sparse_layers * heads;
    if (row.selects() && flow->has_score()) {
      sum.candidate_pages += sparse_layers * heads * row.candidates;
      sum.summary_bytes += sparse_layers * heads * row.candidates * flow->row_bytes();
    }
    if (length % page_size == 0) sum.summarized_pages += geometry_.layers * heads;
  }
  if (flow) {
    sum.attended_pages += walk_counted_.data()[0];
    tokens += walk_counted_.data()[1];
  }
  sum.attended_tokens += tokens;
  sum.kv_bytes += tokens * geometry_.token_bytes();
}

void CudaBackend::keep_lists(const CudaFlow& flow, std::span<const Slice* const> slices, const BackendStep& in) {
  const auto heads = static_cast<std::size_t>(geometry_.kv_heads), layers = static_cast<std::size_t>(geometry_.layers);
  const std::size_t rows = slices.size() * heads, stride = static_cast<std::size_t>(flow.list_stride());
  std::vector<std::int32_t> pages(layers * rows * stride), counts(layers * rows);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const std::int64_t from = static_cast<std::int64_t>(layer) * flow.lists();
    stream_->copy(counts.data() + layer * rows, flow.counts() + from, static_cast<std::int64_t>(4 * rows),
                  Direction::to_host);
    stream_->copy(pages.data() + layer * rows * stride, flow.kept_pages() + from * flow.list_stride(),
                  static_cast<std::int64_t>(4 * rows * stride), Direction::to_host);
  }
  stream_->synchronize();
  for (std::size_t lane = 0; lane < slices.size(); ++lane) {
    const auto slice = static_cast<std::size_t>(slices[lane] - in.slices.data());
    for (std::size_t layer = 0; layer < layers; ++layer) {
      if (!flow.is_sparse(static_cast<std::int64_t>(layer))) continue;  // an empty list: all pages
      for (std::size_t head = 0; head < heads; ++head) {
        const std::size_t row = layer * rows + lane * heads + head;
        const std::int32_t* const begin = pages.data() + row * stride;
        (*in.lists)[(slice * layers + layer) * heads + head].assign(begin, begin + counts[row]);
      }
    }
  }
}

}  // namespace vortex::engine
