// A step on a CUDA device: prompt chunks, decode steps in captured graphs, what comes back.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/arithmetic.h"
#include "base/check.h"
#include "device/cuda/range.h"
#include "engine/cuda/cuda_backend.h"
#include "ir/program.h"

namespace vortex::engine {

using attention::CudaLayer;
using attention::CudaLayerTokens;
using attention::Slice;
using device::Direction;

namespace {
constexpr int kLeastLongest = 1024;  // tokens
constexpr int kMostOfAGrid = 32768;  // tokens or pages in the second direction of a kernel's grid
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
      const auto layer_from = [&](int token, int tokens) {
        return CudaLayer{.geometry = b.shape_,
                         .kv = b.kv(in.layer),
                         .batch = {tokens, pages, 0, lengths_ + token, nullptr, nullptr},
                         .q = b.q_.data() + token * width,
                         .q_stride = width,
                         .layer = in.layer,
                         .layers = static_cast<int>(b.geometry_.layers)};
      };
      for (int done = 0; done < count; done += kMostOfAGrid)
        b.dense_.prepare(stream, layer_from(first + done, std::min(kMostOfAGrid, count - done)), {},
                         {.qkv = in.qkv + (first + done) * in.stride,
                          .stride = in.stride,
                          .q_norm = in.q_norm,
                          .k_norm = in.k_norm,
                          .rotation = in.rotation,
                          .epsilon = in.epsilon,
                          .bias = in.bias});
      const CudaLayer layer = layer_from(first, count);
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
    const CudaFlow* const own = flow_ ? &flow_->at(in.layer) : nullptr;
    const CudaLayer layer{.geometry = b.shape_,
                          .kv = b.kv(in.layer),
                          .batch = batch_,
                          .q = b.q_.data(),
                          .q_stride = b.geometry_.kv_heads * b.geometry_.group * b.geometry_.head_dim,
                          .layer = in.layer,
                          .layers = static_cast<int>(b.geometry_.layers),
                          .parameters = own ? own->parameters() : nullptr,
                          .carried = b.carried_.data(),
                          .kept_elements = own ? own->kept_elements() : 0,
                          .carried_pages = own ? own->carried_before().first : 0,
                          .carried_rows = own ? own->carried_before().second : 0};
    const auto fields = own ? own->fields(in.layer) : std::vector<vortex_field>();
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
      const auto source = static_cast<int>(flow_->source_of(in.layer));
      const CudaFlow& chooser = flow_->at(source);
      const attention::CudaSelection selection = chooser.selection(source, keep_);
      if (source == in.layer) {
        own->kernels().prepare_and_select(stream, layer, fields, tokens,
                                          own->scores(in.layer, batch_.sequences, longest_), selection);
      } else {
        own->kernels().prepare(stream, layer, fields, tokens);
      }
      lists = selection.attended();
      lists.rest = chooser.rest();
      longest = std::min(longest_, chooser.budget(longest_) * chooser.config().page_size);
    } else {
      (own ? own->kernels() : b.dense_).prepare(stream, layer, fields, tokens);
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

// Four lengths to an octave: a graph's grids are as large as its longest sequence may be.
int CudaBackend::longest_of(std::int64_t tokens) const {
  if (config_.deterministic) return static_cast<int>(config_.max_context);
  std::int64_t out = kLeastLongest;
  while (out < tokens) out += std::int64_t{1} << (std::bit_width(static_cast<std::uint64_t>(out)) - 3);
  return static_cast<int>(std::min(out, config_.max_context));
}

// The model's buffers are this engine's from here on. What is written makes summaries of its pages wrong.
void CudaBackend::begin(const BackendStep& in, std::int64_t steps) {
  model_->take(*stream_);
  if (generation_ != model_->generation()) graphs_.clear();  // another engine made the model's buffers anew
  generation_ = model_->generation();
  for (const Slice& slice : in.slices) {
    const std::int64_t end = ceil_div(slice.context + slice.token_count + steps - 1, geometry_.page_size);
    for (std::int64_t page = slice.context / geometry_.page_size; page < end; ++page)
      invalidate(slice.page_table[page]);
  }
}

BackendResult CudaBackend::run(const BackendStep& in) {
  launch(in);
  return finish(in.statistics);
}

void CudaBackend::launch(const BackendStep& in) {
  VORTEX_CHECK(launches_ - finished_ < 2, launches_ - finished_, " steps on their way");
  Launched& step = launching();
  step.place.assign(in.logit_tokens.size(), -1);
  step.walked = 0, step.counts = false;
  begin(in, 1);
  if (in.lists)
    for (auto& list : *in.lists) list.clear();  // all pages, until a flow says otherwise
  std::vector<const Slice*> chunks;
  std::map<int, std::vector<const Slice*>> decoding;  // by flow
  for (const Slice& slice : in.slices) {
    if (slice.sparse && slice.flow != kFullAttention)
      decoding[slice.flow].push_back(&slice);
    else if (slice.token_count == 1 && !(config_.deterministic && slice.prompt))
      decoding[kFullAttention].push_back(&slice);
    else
      chunks.push_back(&slice);
  }
  if (!chunks.empty()) prefill(in, chunks);
  for (const auto& [number, slices] : decoding) decode(in, number, slices);
  if (step.counts) stream_->copy(step.counted.data(), counted_.data(), counted_.bytes(), Direction::to_host);
  model_->give(*stream_);
  stream_->record(*step.done);
  ++launches_;
}

BackendResult CudaBackend::finish(StepStatistics* statistics) {
  VORTEX_CHECK(finished_ < launches_, "no step on its way");
  const Launched& step = launched_[finished_ % 2];
  device_->wait(*step.done);
  ++finished_;
  const std::size_t rows = step.place.size();
  for (std::size_t row = 0; row < rows; ++row) {
    const cuda::ChosenToken& of = step.chosen.data()[step.place[row]];
    chosen_[row] = {of.token, of.logprob};
  }
  if (statistics && step.counts) add_counted(step.counted.data(), *statistics);
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
  const device::CudaRange range("vortex prefill");
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
  const bool draws = put_draws(in, wanted);
  PrefillAttention attention(*this, slices, chunk_.data() + tokens);
  model_->walk(*stream_,
               {.tokens = chunk_.data(),
                .count = tokens,
                .rows = models::CudaDecoder::kMostRows,
                .logit_tokens = chunk_.data() + 2 * tokens,
                .logit_rows = static_cast<int>(wanted.size()),
                .head_rows = head_rows(),
                .draws = draws ? draws_.data() : nullptr},
               attention);
  take(in, wanted);
}

std::int32_t CudaBackend::logit_row(const BackendStep& in, const Slice& slice) const {
  const std::int32_t last = slice.first_token + slice.token_count - 1;
  const auto found = std::ranges::lower_bound(in.logit_tokens, last);
  return found == in.logit_tokens.end() || *found != last ? -1
                                                          : static_cast<std::int32_t>(found - in.logit_tokens.begin());
}

bool CudaBackend::put_draws(const BackendStep& in, std::span<const std::int32_t> wanted) {
  bool any = false;
  std::ranges::fill(draws_host_, cuda::Draw{});
  for (std::size_t row = 0; row < wanted.size(); ++row) {
    const auto at = static_cast<std::size_t>(wanted[row]);
    if (wanted[row] < 0 || at >= in.draws.size() || in.token_alone[at] == 0 || in.draws[at].temperature <= 0.0f)
      continue;
    const Draw& of = in.draws[at];
    constexpr float kMost = std::numeric_limits<float>::max();  // the smallest temperatures have no finite inverse
    draws_host_[row] = {.slope = std::min(1.0f / of.temperature, kMost),
                        .top_p = of.top_p,
                        .least = of.min_p > 0.0f ? std::log(of.min_p) : -std::numeric_limits<float>::infinity(),
                        .top_k = of.top_k,
                        .uniform = of.uniform};
    any = true;
  }
  if (any) stream_->copy(draws_.data(), draws_host_.data(), draws_.bytes(), Direction::to_device);
  return any;
}

std::int64_t CudaBackend::put_inputs(const BackendStep& in, std::span<const Slice* const> slices, int sequences) {
  std::int64_t most_tokens = 1;
  auto* const ids = reinterpret_cast<std::int32_t*>(inputs_host_.data());
  std::int32_t* const lengths = ids + most_sequences_;
  std::int64_t* const steps = inputs_host_.data() + most_sequences_;
  auto* const follows = reinterpret_cast<std::int32_t*>(steps + most_sequences_ + 1);
  const Launched& before = launched_[(launches_ + 1) % 2];
  for (int lane = 0; lane < sequences; ++lane) {
    const bool real = lane < static_cast<int>(slices.size());
    const Slice* const slice = real ? slices[static_cast<std::size_t>(lane)] : nullptr;
    ids[lane] = real ? in.token_ids[static_cast<std::size_t>(slice->first_token)] : 0;
    lengths[lane] = real ? slice->context + 1 : 1;
    steps[lane] = real ? slice->step : 0;
    const std::int32_t row =
        real && !in.follows.empty() ? in.follows[static_cast<std::size_t>(slice - in.slices.data())] : -1;
    follows[lane] = row >= 0 ? before.place[static_cast<std::size_t>(row)] : -1;
    most_tokens = std::max<std::int64_t>(most_tokens, lengths[lane]);
  }
  steps[most_sequences_] = static_cast<std::int64_t>(slices.size());  // and, in its upper half, no steps so far
  put_tables(slices, sequences);
  return most_tokens;
}

// And, where sequences go on with what the step before chose, these tokens.
void CudaBackend::upload_inputs(const BackendStep& in) {
  stream_->copy(inputs_.data(), inputs_host_.data(), inputs_.bytes(), Direction::to_device);
  if (std::ranges::all_of(in.follows, [](std::int32_t row) { return row < 0; })) return;
  auto* const ids = reinterpret_cast<int*>(inputs_.data());
  kernels_.follow(*stream_,
                  {launched_[(launches_ + 1) % 2].chosen.data(),
                   reinterpret_cast<const int*>(inputs_.data() + 2 * most_sequences_ + 1), ids, most_sequences_});
}

void CudaBackend::put_carried(const CudaFlow& flow, std::span<const Slice* const> slices, int sequences,
                              std::int64_t more) {
  if (!flow.carried().any()) return;
  for (int lane = 0; lane < sequences; ++lane) {
    const bool real = lane < static_cast<int>(slices.size());
    const Slice* const slice = real ? slices[static_cast<std::size_t>(lane)] : nullptr;
    const attention::RowMemory* const memory = real ? slice->memory : &flow.nobody();
    VORTEX_CHECK(memory != nullptr && memory->on_device() != nullptr &&
                     (!real || memory->room() * flow.config().page_size >= slice->context + 1 + more),
                 "memory of ", memory ? memory->room() : 0, " pages for ", real ? slice->context + 1 + more : 1,
                 " tokens");
    carried_host_[static_cast<std::size_t>(lane)] = {memory->on_device(), memory->room()};
  }
  stream_->copy(carried_.data(), carried_host_.data(),
                sequences * static_cast<std::int64_t>(sizeof(cuda::FlowArguments::Carried)), Direction::to_device);
}

void CudaBackend::prepare_flow(CudaFlow& flow, std::span<const Slice* const> slices, int sequences, std::int64_t more,
                               StepStatistics* statistics) {
  for (CudaFlow* each : flow.all()) rebuild(*each, slices, more, statistics);
  put_carried(flow, slices, sequences, more);
}

void CudaBackend::decode(const BackendStep& in, int number, std::span<const Slice* const> slices) {
  const device::CudaRange range("vortex decode");
  CudaFlow* const flow = this->flow(number);
  const int sequences = bucket(static_cast<std::int64_t>(slices.size()));
  const int longest = longest_of(put_inputs(in, slices, sequences));
  std::vector<std::int32_t> wanted;
  for (const Slice* slice : slices) wanted.push_back(logit_row(in, *slice));
  if (flow) prepare_flow(*flow, slices, sequences, 0, in.statistics);
  device::Graph& captured =
      graph({number, sequences, longest, in.lists != nullptr && flow != nullptr, false, put_draws(in, wanted)});
  upload_inputs(in);
  if (flow && !launching().counts) counted_.fill(*stream_, 0);
  launching().counts |= flow != nullptr;
  stream_->launch(captured);
  take(in, wanted);
  if (flow) finish_pages(*flow, slices, 1);
  StepStatistics nowhere;  // what rows keep is noted in any case
  StepStatistics& statistics = in.statistics ? *in.statistics : nowhere;
  count(flow, slices, 0, statistics);
  if (in.lists && flow) keep_lists(*flow, slices, in);
}

void CudaBackend::run_ahead(const BackendStep& in, std::int64_t steps, std::int32_t* tokens) {
  const device::CudaRange range("vortex decode ahead");
  begin(in, steps);
  std::vector<const Slice*> slices;
  for (const Slice& slice : in.slices) slices.push_back(&slice);
  const int number = slices[0]->sparse ? slices[0]->flow : kFullAttention;
  CudaFlow* const flow = this->flow(number);
  const int sequences = bucket(static_cast<std::int64_t>(slices.size()));
  const int longest = longest_of(put_inputs(in, slices, sequences) + steps - 1);
  if (flow) prepare_flow(*flow, slices, sequences, steps - 1, in.statistics);
  device::Graph& captured = graph({number, sequences, longest, false, true, false});
  upload_inputs(in);
  counted_.fill(*stream_, 0);
  int* const progress = reinterpret_cast<int*>(inputs_.data() + 2 * most_sequences_);
  for (std::int64_t done = 0; done < steps; done += kAhead) {
    const std::int64_t count = std::min<std::int64_t>(kAhead, steps - done);
    stream_->fill(progress + 1, 0, sizeof(int));
    const auto lanes = static_cast<std::int64_t>(slices.size());
    // What is fed follows in the stream on the step before it, over that step's own token.
    const std::int64_t fed = in.fed.empty() ? 0 : std::min(count + 1, steps - done);
    if (fed > 0) std::copy_n(in.fed.data() + done * lanes, fed * lanes, fed_host_.data());
    for (std::int64_t step = 0; step < count; ++step) {
      stream_->launch(captured);
      if (step + 1 < fed)
        stream_->copy(inputs_.data(), fed_host_.data() + (step + 1) * lanes, 4 * lanes, Direction::to_device);
    }
    stream_->copy(log_host_.data(), log_.data(), 4 * count * most_sequences_, Direction::to_host);
    stream_->copy(launching().counted.data(), counted_.data(), counted_.bytes(), Direction::to_host);
    stream_->synchronize();
    for (std::int64_t step = 0; step < count; ++step)
      tokens = std::copy_n(log_host_.data() + step * most_sequences_, slices.size(), tokens);
  }
  if (flow) finish_pages(*flow, slices, steps);
  StepStatistics nowhere;
  StepStatistics& statistics = in.statistics ? *in.statistics : nowhere;
  for (std::int64_t step = 0; step < steps; ++step) count(flow, slices, step, statistics);
  if (flow) add_counted(launching().counted.data(), statistics);
}

// Pages of the flow that these steps finished were summarized by them.
void CudaBackend::finish_pages(CudaFlow& flow, std::span<const Slice* const> slices, std::int64_t steps) const {
  const std::int64_t page_size = flow.config().page_size;
  for (const Slice* slice : slices)
    for (std::int64_t end = (slice->context / page_size + 1) * page_size; end <= slice->context + steps;
         end += page_size)
      for (CudaFlow* each : flow.all()) each->set_valid(slice->page_table[end / geometry_.page_size - 1], true);
}

StepProfile CudaBackend::profile(const BackendStep& in) {
  constexpr int kWarm = 3, kPasses = 5, kReplays = 9;
  begin(in, 1);
  std::vector<const Slice*> slices;
  for (const Slice& slice : in.slices) slices.push_back(&slice);
  const int number = slices[0]->sparse ? slices[0]->flow : kFullAttention;
  CudaFlow* const flow = this->flow(number);
  const int sequences = bucket(static_cast<std::int64_t>(slices.size()));
  const GraphKey key{number, sequences, longest_of(put_inputs(in, slices, sequences)), false, false, false};
  // What the flow carries from step to step goes on with every replay.
  if (flow) prepare_flow(*flow, slices, sequences, 0, in.statistics);
  device::Graph& captured = graph(key);
  upload_inputs(in);
  const auto begin = device_->make_event(), end = device_->make_event();
  for (int i = 0; i < kWarm; ++i) stream_->launch(captured);
  stream_->record(*begin);
  for (int i = 0; i < kReplays; ++i) stream_->launch(captured);
  stream_->record(*end);
  StepProfile out{.kernels = {}, .step_milliseconds = device_->milliseconds(*begin, *end) / kReplays};
  // Graphs keep the device at work while the host puts the first kernels after them.
  device::ProfiledStream stream(*device_, *stream_);
  for (int pass = 0; pass < kPasses; ++pass) {
    for (int i = 0; i < kWarm; ++i) stream_->launch(captured);
    stream.begin_pass();
    put_step(stream, key);
  }
  out.kernels = stream.times();
  for (const device::KernelTime& it : out.kernels) out.launches += it.launches;
  if (flow) finish_pages(*flow, slices, 1);
  return out;
}

void CudaBackend::put_step(device::Stream& stream, const GraphKey& key) {
  const auto [number, sequences, longest, keep, ahead, draws] = key;
  CudaFlow* const flow = this->flow(number);
  const int rows = (sequences + 7) / 8 * 8;
  auto* const ids = reinterpret_cast<int*>(inputs_.data());
  const vortex_batch batch{
      sequences, tables_.data(), table_stride_, ids + most_sequences_, nullptr, inputs_.data() + most_sequences_};
  const auto layers = static_cast<int>(geometry_.layers);
  const std::vector<CudaFlow*> all = flow ? flow->all() : std::vector<CudaFlow*>();
  for (const CudaFlow* each : all) {
    const CudaLayer first{.geometry = shape_,
                          .kv = {},
                          .batch = batch,
                          .layers = layers,
                          .carried = carried_.data(),
                          .kept_elements = each->kept_elements(),
                          .kept_layer = each->first_chooser(),
                          .carried_rows = each->carried_before().second};
    each->kernels().plan(stream, first, each->plans_layers() ? layers : 1, nullptr, each->plans());
  }
  DecodeAttention attention(*this, flow, batch, longest, keep);
  model_->walk(stream,
               {.tokens = ids,
                .count = sequences,
                .rows = rows,
                .logit_rows = sequences,
                .draws = draws ? draws_.data() : nullptr},
               attention);
  for (const CudaFlow* each : all)
    kernels_.count_lists(
        stream, {each->counts(), each->listed(), reinterpret_cast<const int*>(inputs_.data() + 2 * most_sequences_),
                 each->sources(), layers, static_cast<int>(each->lists()), static_cast<int>(geometry_.kv_heads),
                 reinterpret_cast<long long*>(counted_.data())});
  if (ahead)
    kernels_.advance(
        stream,
        {model_->chosen(), ids, ids + most_sequences_, reinterpret_cast<long long*>(inputs_.data() + most_sequences_),
         reinterpret_cast<int*>(inputs_.data() + 2 * most_sequences_), log_.data(), most_sequences_});
}

// Summaries that scoring will read and that are not there: pages prefilled, restored or shared from elsewhere.
void CudaBackend::rebuild(CudaFlow& flow, std::span<const Slice* const> slices, std::int64_t more,
                          StepStatistics* statistics) {
  if (!flow.chooses() || flow.kernels().flow().fields.empty()) return;
  const std::int64_t page_size = flow.config().page_size, physical = page_size / geometry_.page_size;
  std::vector<std::int32_t> ends;
  std::vector<kv::Page> homes;
  std::vector<std::size_t> first{0};  // of each lane
  for (const Slice* slice : slices) {
    const std::int64_t tokens = slice->context + 1 + more;
    const ir::RowPages row = flow.rows(tokens, slice->step + more, 0);
    // A computed budget may leave out pages in another layer, or in a step in between.
    const bool selects = flow.kernels().rows().computed() ? row.candidates > 0 : row.selects();
    if (selects || flow.has_state())
      for (std::int64_t page = row.first; (page + 1) * page_size <= slice->context; ++page) {  // not those to come
        if (!flow.reads(row, page)) continue;
        const kv::Page home = slice->page_table[(page + 1) * physical - 1];
        if (flow.is_valid(home)) continue;
        flow.set_valid(home, true);  // once, though several lanes have it
        homes.push_back(home);
        ends.push_back(static_cast<std::int32_t>((page + 1) * page_size));
      }
    first.push_back(ends.size());
  }
  if (ends.empty()) return;
  try {
    summarize(flow, ends, first);
  } catch (...) {
    for (const kv::Page home : homes) flow.set_valid(home, false);
    throw;
  }
  if (statistics) statistics->rebuilt_summaries += static_cast<std::int64_t>(ends.size());
}

// Pages that end where `ends` says, tokens of their sequences: those of lane l are [first[l], first[l + 1]).
void CudaBackend::summarize(const CudaFlow& flow, std::span<const std::int32_t> ends,
                            std::span<const std::size_t> first) const {
  stream_->copy(page_list_.data(), ends.data(), 4 * static_cast<std::int64_t>(ends.size()), Direction::to_device);
  for (int number = 0; number < geometry_.layers; ++number) {
    if (!flow.works_in(number)) continue;
    const auto fields = flow.fields(number);
    for (std::size_t lane = 0; lane + 1 < first.size(); ++lane)
      for (std::size_t done = first[lane]; done < first[lane + 1]; done += kMostOfAGrid) {
        const auto count = static_cast<int>(std::min<std::size_t>(kMostOfAGrid, first[lane + 1] - done));
        const CudaLayer layer{.geometry = shape_,
                              .kv = kv(number),
                              .batch = {count, tables_.data() + static_cast<std::ptrdiff_t>(lane) * table_stride_, 0,
                                        page_list_.data() + done, nullptr, nullptr},
                              .layer = number,
                              .layers = static_cast<int>(geometry_.layers),
                              .parameters = flow.parameters()};
        flow.kernels().summarize(*stream_, layer, fields);
      }
  }
  stream_->synchronize();  // `ends` goes
}

void CudaBackend::take(const BackendStep& in, std::span<const std::int32_t> wanted) {
  const std::int64_t vocabulary = model_->config().vocabulary;
  const auto rows = static_cast<std::int64_t>(wanted.size());
  Launched& step = launching();
  stream_->copy(step.chosen.data() + step.walked, model_->chosen(),
                rows * static_cast<std::int64_t>(sizeof(cuda::ChosenToken)), Direction::to_host);
  for (std::int64_t row = 0; row < rows; ++row)
    if (const std::int32_t to = wanted[static_cast<std::size_t>(row)]; to >= 0)
      step.place[static_cast<std::size_t>(to)] = step.walked + static_cast<std::int32_t>(row);
  step.walked += static_cast<std::int32_t>(rows);
  const auto copied = [&](std::int64_t row) {
    const std::int32_t to = wanted[static_cast<std::size_t>(row)];
    return to >= 0 && in.token_alone[static_cast<std::size_t>(to)] == 0;
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
}

// Rows and candidates follow from the lengths; what sparse layers attended was counted on the device.
void CudaBackend::count(const CudaFlow* flow, std::span<const Slice* const> slices, std::int64_t step,
                        StepStatistics& sum) const {
  const std::int64_t heads = geometry_.kv_heads;
  std::int64_t sparse_layers = 0;
  if (flow)
    for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) sparse_layers += flow->is_sparse(layer);
  const std::int64_t full_layers = geometry_.layers - sparse_layers;
  std::int64_t tokens = 0;
  for (const Slice* slice : slices) {
    const std::int64_t length = slice->context + 1 + step;
    sum.rows += geometry_.layers * heads;
    sum.attended_pages += full_layers * heads * ceil_div(length, flow ? flow->config().page_size : geometry_.page_size);
    tokens += full_layers * heads * length;
    if (!flow) continue;
    const bool ends = length % flow->config().page_size == 0;
    for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) {
      if (ends && flow->at(layer).has_fields()) sum.summarized_pages += heads;
      if (!flow->is_sparse(layer)) continue;
      const std::int64_t source = flow->source_of(layer);
      const CudaFlow& chooser = flow->at(source);
      const ir::RowPages row = chooser.rows(length, slice->step + step, source);
      (row.selects() ? sum.sparse_rows : sum.covered_rows) += heads;
      const bool recalls = chooser.keeps() && chooser.recalls(*slice->memory, row, slice->step + step, source);
      if (source != layer || recalls) {
        if (row.selects()) sum.reused_rows += heads;
      } else if (chooser.chooses() && (row.selects() || chooser.has_state())) {
        sum.candidate_pages += heads * row.candidates;
        sum.summary_bytes += heads * chooser.read_bytes(row, length);
      }
      if (chooser.keeps() && source == layer && row.selects() && !recalls)
        slice->memory->keep_pages(layer, static_cast<std::int32_t>(row.pages));
    }
  }
  sum.attended_tokens += tokens;
  sum.kv_bytes += tokens * geometry_.token_bytes();
}

void CudaBackend::add_counted(const std::int64_t* counted, StepStatistics& sum) const {
  sum.attended_pages += counted[0];
  sum.attended_tokens += counted[1];
  sum.kv_bytes += counted[1] * geometry_.token_bytes();
}

void CudaBackend::keep_lists(const CudaFlow& flow, std::span<const Slice* const> slices, const BackendStep& in) {
  const auto heads = static_cast<std::size_t>(geometry_.kv_heads), layers = static_cast<std::size_t>(geometry_.layers);
  const std::size_t rows = slices.size() * heads;
  std::vector<std::vector<std::int32_t>> pages(layers);
  std::vector<std::int32_t> counts(layers * rows);
  const auto chooser_of = [&](std::size_t layer) -> std::pair<const CudaFlow&, std::int64_t> {
    const std::int64_t source = flow.source_of(static_cast<std::int64_t>(layer));
    return {flow.at(source), source};
  };
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const auto& [chooser, source] = chooser_of(layer);
    const std::int64_t from = source * chooser.lists();
    pages[layer].resize(rows * static_cast<std::size_t>(chooser.list_stride()));
    stream_->copy(counts.data() + layer * rows, chooser.counts() + from, static_cast<std::int64_t>(4 * rows),
                  Direction::to_host);
    stream_->copy(pages[layer].data(), chooser.kept_pages() + from * chooser.list_stride(),
                  static_cast<std::int64_t>(4 * pages[layer].size()), Direction::to_host);
  }
  stream_->synchronize();
  for (std::size_t lane = 0; lane < slices.size(); ++lane) {
    const auto slice = static_cast<std::size_t>(slices[lane] - in.slices.data());
    for (std::size_t layer = 0; layer < layers; ++layer) {
      if (!flow.is_sparse(static_cast<std::int64_t>(layer))) continue;  // an empty list: all pages
      const auto stride = static_cast<std::size_t>(chooser_of(layer).first.list_stride());
      for (std::size_t head = 0; head < heads; ++head) {
        const std::size_t row = lane * heads + head;
        const std::int32_t* const begin = pages[layer].data() + row * stride;
        (*in.lists)[(slice * layers + layer) * heads + head].assign(begin, begin + counts[layer * rows + row]);
      }
    }
  }
}

}  // namespace vortex::engine
