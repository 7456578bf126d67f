#include "gpu/fast_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/text.h"

namespace vortex::gpu_tests {

using device::Array;
using kernels::Epilogue;

std::int64_t StepModel::weight_bytes() const {
  const std::int64_t layer = static_cast<std::int64_t>(width) * (q_width() + 2 * kv_width()) +
                             static_cast<std::int64_t>(q_width()) * width + 3LL * width * ffn_width;
  return 2 * (layers * layer + static_cast<std::int64_t>(vocabulary) * width);
}

const char* name_of(Part part) {
  constexpr const char* kNames[] = {"plan",   "embed",  "qkv",     "prepare", "score", "select",
                                    "attend", "output", "gate_up", "down",    "head",  "sample"};
  int at = 0;
  while (static_cast<unsigned>(part) >> at != 1) ++at;
  return kNames[at];
}

StepPool::StepPool(std::shared_ptr<device::Device> device, const StepModel& model, int page_size, std::int64_t tokens,
                   unsigned seed)
    : model_(model),
      page_size_(page_size),
      pages_((tokens + page_size - 1) / page_size),
      memory_(device, model.layers * layer_elements()) {
  const kernels::LinearHelpers helpers(*device);
  const auto stream = device->make_stream();
  helpers.random(*stream, {memory_.data(), memory_.count(), seed, 1.7f});
  stream->synchronize();
}

vortex_kv StepPool::kv(int layer) const {
  const std::int64_t page = static_cast<std::int64_t>(page_size_) * model_.head_dim;
  unsigned short* const k = memory_.data() + layer * layer_elements();
  return {VORTEX_BFLOAT16,
          {k, model_.kv_heads * 2 * page, 2 * page, model_.head_dim},
          {k + page, model_.kv_heads * 2 * page, 2 * page, model_.head_dim},
          {},
          {}};
}

struct FastStep::State {
  State(device::Device& device, const vortex_geometry& tuned)
      : stream(device.make_stream()), chain(device, tuned), helpers(device) {}

  std::unique_ptr<device::Stream> stream;
  attention::CudaChain chain;
  kernels::LinearHelpers helpers;
  std::unique_ptr<attention::CudaFlowKernels> flow;  // or full attention's prepare
  bool sparse = false;
  vortex_geometry geometry{};
  int rows = 8, capacity = 1, list_stride = 0, physical_stride = 0, longest = 0;
  std::int64_t workspace_stride = 0, budget_tokens = 0;
  Array<float> rotation, residual, squares, qkv, q, partial, scores, workspace, rest, best, logits;
  Array<unsigned short> operand, attended, hidden;
  Array<cuda::SequencePlan> plans;
  Array<int> arrivals;  // [sequences, kv_heads] zeros
  Array<int> tables, tokens, next, pages, counts, physical, listed, best_channel, log_listed, log_physical;
  Array<std::int64_t> steps;
  std::vector<std::vector<Array<std::uint8_t>>> fields;  // [layers][fields]

  std::vector<vortex_field> fields_of(int layer) const {
    std::vector<vortex_field> out;
    for (std::size_t f = 0; f < fields[static_cast<std::size_t>(layer)].size(); ++f) {
      const std::int64_t elements = flow->flow().fields[f].elements;
      out.push_back({fields[static_cast<std::size_t>(layer)][f].data(), geometry.kv_heads * elements, elements});
    }
    return out;
  }
};

FastStep::~FastStep() = default;
device::Stream& FastStep::stream() { return *state_->stream; }

FastStep::FastStep(std::shared_ptr<device::Device> device, const StepPool& pool,
                   const std::optional<compiler::Plan>& plan, const StepOptions& options)
    : device_(std::move(device)), pool_(pool), model_(pool.model()), options_(options) {
  const StepModel& m = model_;
  const vortex_geometry geometry{
      m.kv_heads, m.group(), m.head_dim, pool.page_size(), 1.0f / std::sqrt(static_cast<float>(m.head_dim)), 0, 0};
  state_ = std::make_unique<State>(*device_, geometry);
  State& s = *state_;
  s.geometry = geometry;
  s.rows = (options.sequences + 7) / 8 * 8;
  s.longest = options.context + options.more;
  const int n = options.sequences;
  const std::int64_t heads = static_cast<std::int64_t>(n) * m.kv_heads;

  // Weights.
  weights_ = std::make_unique<Weights>();
  Weights& w = *weights_;
  unsigned seed = options.seed * 1000;
  const auto linear = [&](Epilogue epilogue, std::int64_t in, std::int64_t out) {
    const kernels::LinearShape shape{.epilogue = epilogue,
                                     .rows = s.rows,
                                     .in = in,
                                     .out = out,
                                     .tile = epilogue == Epilogue::likeliest ? 0 : options.tile,
                                     .split = epilogue == Epilogue::likeliest ? 0 : options.split,
                                     .stages = options.stages};
    return std::make_unique<kernels::StreamedLinear>(*device_, shape);
  };
  const auto random = [&](const kernels::StreamedLinear& of) {
    Array<unsigned short> out(device_, of.weight_elements());
    s.helpers.random(*s.stream, {out.data(), out.count(), ++seed,
                                 static_cast<float>(std::sqrt(3.0 / static_cast<double>(of.shape().in)))});
    return out;
  };
  w.qkv = linear(Epilogue::plain, m.width, m.q_width() + 2 * m.kv_width());
  w.output = linear(Epilogue::residual, m.q_width(), m.width);
  w.gate_up = linear(Epilogue::swiglu, m.width, 2 * m.ffn_width);
  w.down = linear(Epilogue::residual, m.ffn_width, m.width);
  w.head = linear(Epilogue::likeliest, m.width, m.vocabulary);
  for (int layer = 0; layer < m.layers; ++layer) {
    w.qkv_of.push_back(random(*w.qkv));
    w.output_of.push_back(random(*w.output));
    w.gate_up_of.push_back(random(*w.gate_up));
    w.down_of.push_back(random(*w.down));
  }
  w.head_of = random(*w.head);
  std::mt19937 random_norms(options.seed);
  const auto norms = [&](int channels) {
    std::vector<float> out(static_cast<std::size_t>(channels));
    for (float& value : out) value = std::uniform_real_distribution<float>(0.75f, 1.25f)(random_norms);
    return device::upload(device_, *s.stream, out);
  };
  w.norm = norms(m.width), w.head_norm = norms(m.head_dim);

  // Sequences over shuffled pages of the pool.
  const int flow_page = plan ? static_cast<int>(plan->program.config.page_size) : pool.page_size();
  table_stride_ = (s.longest + flow_page - 1) / flow_page * (flow_page / pool.page_size());
  VORTEX_CHECK(static_cast<std::int64_t>(n) * table_stride_ <= pool.pages(), n, " sequences of ", table_stride_,
               " pages in a pool of ", pool.pages());
  std::vector<int> pages(static_cast<std::size_t>(pool.pages()));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(options.seed));
  tables_host_.assign(pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(n) * table_stride_);
  s.tables = device::upload(device_, *s.stream, tables_host_);
  std::vector<int> first(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) first[static_cast<std::size_t>(i)] = (i * 7919 + 13) % m.vocabulary;
  s.next = Array<int>(device_, n), s.tokens = Array<int>(device_, n);
  s.steps = device::upload(device_, *s.stream, std::vector<std::int64_t>(static_cast<std::size_t>(n), 0));
  std::vector<int> lengths_first(static_cast<std::size_t>(n));  // pages end at different steps
  for (int i = 0; i < n; ++i) lengths_first[static_cast<std::size_t>(i)] = options.context + 1 + i % options.stagger;
  set_inputs(first, lengths_first);
  std::vector<float> rotation(static_cast<std::size_t>(s.longest) * static_cast<std::size_t>(m.head_dim));
  for (int position = 0; position < s.longest; ++position) {
    for (int i = 0; i < m.head_dim / 2; ++i) {
      const double angle = position * std::pow(m.rope_base, -2.0 * i / m.head_dim);
      float* to = rotation.data() + (static_cast<std::size_t>(position) * static_cast<std::size_t>(m.head_dim / 2) +
                                     static_cast<std::size_t>(i)) *
                                        2;
      to[0] = static_cast<float>(std::cos(angle)), to[1] = static_cast<float>(std::sin(angle));
    }
  }
  s.rotation = device::upload(device_, *s.stream, rotation);

  // Activations: poisoned, but for the rows of operands that no sequence fills.
  const auto poisoned = [&](auto& array, std::int64_t count) {
    using Element = std::remove_pointer_t<decltype(array.data())>;
    array = Array<Element>(device_, std::max<std::int64_t>(count, 1));
    array.fill(*s.stream, 0xff);
  };
  poisoned(s.residual, static_cast<std::int64_t>(n) * m.width);
  poisoned(s.squares, static_cast<std::int64_t>(std::max(w.output->parts(), w.down->parts())) * s.rows);
  poisoned(s.qkv, static_cast<std::int64_t>(n) * (m.q_width() + 2 * m.kv_width()));
  poisoned(s.q, static_cast<std::int64_t>(n) * m.q_width());
  poisoned(s.operand, static_cast<std::int64_t>(s.rows) * m.width);
  poisoned(s.attended, static_cast<std::int64_t>(s.rows) * m.q_width());
  poisoned(s.hidden, static_cast<std::int64_t>(s.rows) * m.ffn_width);
  for (auto* array : {&s.operand, &s.attended, &s.hidden}) array->fill(*s.stream, 0);
  s.squares.fill(*s.stream, 0);
  poisoned(s.best, static_cast<std::int64_t>(w.head->bests()) * s.rows);
  poisoned(s.best_channel, static_cast<std::int64_t>(w.head->bests()) * s.rows);
  poisoned(s.plans, n);

  std::int64_t attended = s.longest;
  if (plan) {
    s.flow = std::make_unique<attention::CudaFlowKernels>(*device_, *plan);
    s.sparse = true;
    const ir::FlowConfig& config = s.flow->config();
    const std::int64_t budget =
        ir::most_attended(plan->program, s.flow->rows(), config,
                          {.geometry = plan->geometry, .tokens = s.longest, .layers = m.layers, .scale = 1.0});
    s.budget_tokens = attended = budget * flow_page;
    s.list_stride = static_cast<int>(budget), s.physical_stride = s.list_stride * (flow_page / pool.page_size());
    s.capacity = s.flow->candidates(s.longest);
    poisoned(s.pages, heads * s.list_stride), poisoned(s.counts, heads);
    poisoned(s.physical, heads * s.physical_stride), poisoned(s.listed, heads);
    poisoned(s.scores, heads * s.capacity);
    s.workspace_stride = s.flow->workspace_floats(s.capacity);
    poisoned(s.workspace, heads * s.workspace_stride);
    if (s.flow->flow().has_rest) poisoned(s.rest, heads * m.group() * (1 + m.head_dim));
    // Summaries of all full pages, by the flow's own kernel, a page of every sequence at a time.
    const int full = options.context / flow_page;
    std::vector<int> lengths;
    for (int page = 0; page < full; ++page)
      lengths.insert(lengths.end(), static_cast<std::size_t>(n), (page + 1) * flow_page);
    const Array<int> device_lengths = device::upload(device_, *s.stream, lengths);
    for (int number = 0; number < m.layers; ++number) {
      s.fields.emplace_back();
      for (const codegen::FieldLayout& field : s.flow->flow().fields) {
        const std::int64_t bytes = field.elements * (field.dtype == ir::DType::bf16 ? 2 : 4);
        s.fields.back().emplace_back(device_, pool.pages() * m.kv_heads * bytes);
        s.fields.back().back().fill(*s.stream, 0xff);
      }
      const auto fields = s.fields_of(number);
      attention::CudaLayer layer{.geometry = geometry, .kv = pool.kv(number), .batch = {}, .layers = m.layers};
      for (int page = 0; page < full; ++page) {
        layer.batch = {
            n,       s.tables.data(), table_stride_, device_lengths.data() + static_cast<std::ptrdiff_t>(page) * n,
            nullptr, nullptr};
        s.flow->summarize(*s.stream, layer, fields);
      }
    }
    s.stream->synchronize();
  } else {
    s.flow = std::make_unique<attention::CudaFlowKernels>(
        *device_,
        ir::Geometry{.page_size = pool.page_size(), .head_dim = m.head_dim, .group = m.group(), .value_dim = 0});
    s.physical_stride = table_stride_;
  }
  s.arrivals = Array<int>(device_, heads);
  s.arrivals.fill(*s.stream, 0);
  poisoned(s.partial, attention::CudaChain::partial_floats(geometry, n, attended));
  s.stream->synchronize();
}

void FastStep::set_inputs(const std::vector<int>& next, const std::vector<int>& lengths) {
  State& s = *state_;
  s.next.upload(*s.stream, next.data());
  s.tokens.upload(*s.stream, lengths.data());
  s.stream->synchronize();
}

void FastStep::put(unsigned parts, bool log) {
  State& s = *state_;
  const Weights& w = *weights_;
  const StepModel& m = model_;
  const int n = options_.sequences;
  const auto wants = [&](Part part) { return (parts & static_cast<unsigned>(part)) != 0; };
  const vortex_batch batch{n, s.tables.data(), table_stride_, s.tokens.data(), nullptr, s.steps.data()};
  const int qkv_width = m.q_width() + 2 * m.kv_width();
  if (s.sparse && wants(Part::plan))
    s.flow->plan(*s.stream, {.geometry = s.geometry, .kv = {}, .batch = batch, .layers = m.layers}, 1, nullptr,
                 s.plans.data());
  if (wants(Part::embed))
    s.helpers.embed(*s.stream,
                    {w.head_of.data(), s.next.data(), w.norm.data(), s.residual.data(), s.operand.data(),
                     s.squares.data(), m.width, kernels::StreamedLinear::kPackedRows, s.rows},
                    n);
  for (int number = 0; number < m.layers; ++number) {
    const auto at = static_cast<std::size_t>(number);
    cuda::StreamedLinearArguments a{};
    a.count = n, a.epsilon = m.epsilon, a.width = static_cast<float>(m.width), a.squares = s.squares.data();
    a.residual = s.residual.data(), a.norm = w.norm.data(), a.squares_out = s.squares.data();
    if (wants(Part::qkv)) {
      auto q = a;
      q.weight = w.qkv_of[at].data(), q.x = s.operand.data(), q.parts = number == 0 ? 1 : w.down->parts();
      q.out = s.qkv.data();
      w.qkv->run(*s.stream, q);
    }
    const attention::CudaLayer layer{.geometry = s.geometry,
                                     .kv = pool_.kv(number),
                                     .batch = batch,
                                     .q = s.q.data(),
                                     .q_stride = m.q_width(),
                                     .layer = number,
                                     .layers = m.layers};
    const auto fields = s.sparse ? s.fields_of(number) : std::vector<vortex_field>();
    const float* norm = m.qk_norm ? w.head_norm.data() : nullptr;
    const attention::CudaNewTokens tokens{s.qkv.data(), qkv_width, norm, norm, s.rotation.data(), m.epsilon};
    const bool chooses = !s.sparse || s.flow->config().source_of(number) == number;  // else the lists are there
    const bool together =
        s.sparse && chooses && options_.fused && !options_.select_apart && wants(Part::prepare) && wants(Part::select);
    if (wants(Part::prepare) && !together) s.flow->prepare(*s.stream, layer, fields, tokens);
    attention::CudaLists lists{s.tables.data(), table_stride_, s.tokens.data(), false};
    std::int64_t longest = s.longest;
    if (s.sparse) {
      const attention::CudaScores scores{s.plans.data(),     s.scores.data(),
                                         s.workspace.data(), s.workspace_stride,
                                         s.capacity,         options_.fused ? s.arrivals.data() : nullptr,
                                         s.rest.data()};
      const attention::CudaSelection selection{{s.list_stride == 0 ? 0 : static_cast<int>(s.flow->config().page_size),
                                                s.pages.data(), s.list_stride, s.counts.data()},
                                               s.physical.data(),
                                               s.physical_stride,
                                               s.listed.data()};
      if (chooses && wants(Part::score) && !wants(Part::select)) s.flow->score_pages(*s.stream, layer, fields, scores);
      if (together) {
        s.flow->prepare_and_select(*s.stream, layer, fields, tokens, scores, selection);
      } else if (chooses && wants(Part::select) && options_.select_apart) {
        s.flow->score(*s.stream, layer, fields, scores);
        s.chain.select(*s.stream, s.geometry, batch, scores, selection);
      } else if (chooses && wants(Part::select)) {
        s.flow->select(*s.stream, layer, fields, scores, selection);
      }
      lists = selection.attended();
      lists.rest = s.rest.data();
      longest = s.budget_tokens;
      if (log) {
        const std::int64_t rows = static_cast<std::int64_t>(n) * m.kv_heads;
        s.stream->copy(s.log_listed.data() + number * rows, s.listed.data(), rows * 4, device::Direction::on_device);
        s.stream->copy(s.log_physical.data() + number * rows * s.physical_stride, s.physical.data(),
                       rows * s.physical_stride * 4, device::Direction::on_device);
      }
    }
    if (wants(Part::attend))
      s.chain.attend(*s.stream, layer, lists, longest, s.partial.data(),
                     {.out = nullptr, .operand = s.attended.data(), .operand_rows = s.rows});
    if (wants(Part::output)) {
      auto o = a;
      o.weight = w.output_of[at].data(), o.x = s.attended.data(), o.operand = s.operand.data();
      w.output->run(*s.stream, o);
    }
    if (wants(Part::gate_up)) {
      auto g = a;
      g.weight = w.gate_up_of[at].data(), g.x = s.operand.data(), g.parts = w.output->parts(),
      g.operand = s.hidden.data();
      w.gate_up->run(*s.stream, g);
    }
    if (wants(Part::down)) {
      auto d = a;
      d.weight = w.down_of[at].data(), d.x = s.hidden.data(), d.operand = s.operand.data();
      w.down->run(*s.stream, d);
    }
  }
  if (wants(Part::head)) {
    cuda::StreamedLinearArguments h{};
    h.count = n, h.epsilon = m.epsilon, h.width = static_cast<float>(m.width), h.squares = s.squares.data();
    h.weight = w.head_of.data(), h.x = s.operand.data(), h.parts = w.down->parts();
    h.best = s.best.data(), h.best_channel = s.best_channel.data(), h.out = log ? s.logits.data() : nullptr;
    w.head->run(*s.stream, h);
  }
  if (wants(Part::sample))
    s.helpers.take_likeliest(*s.stream,
                             {s.best.data(), s.best_channel.data(), w.head->bests(), s.rows, s.next.data(),
                              s.tokens.data(), reinterpret_cast<long long*>(s.steps.data()), s.longest},
                             n);
}

std::unique_ptr<device::Graph> FastStep::capture(unsigned parts, bool log) {
  State& s = *state_;
  if (log) {
    const std::int64_t rows = static_cast<std::int64_t>(options_.sequences) * model_.kv_heads;
    s.logits = Array<float>(device_, static_cast<std::int64_t>(options_.sequences) * model_.vocabulary);
    s.logits.fill(*s.stream, 0xff);
    if (s.sparse) {
      s.log_listed = Array<int>(device_, model_.layers * rows);
      s.log_physical = Array<int>(device_, model_.layers * rows * s.physical_stride);
    }
    s.stream->synchronize();
  }
  s.stream->begin_capture();
  put(parts, log);
  return s.stream->end_capture();
}

void FastStep::launch(unsigned parts) { put(parts, false); }

std::vector<int> FastStep::next_tokens() { return state_->next.download(*state_->stream); }

void FastStep::plan_on_host() {
  State& s = *state_;
  VORTEX_CHECK(s.sparse, "a plan for full attention");
  const ir::FlowConfig& config = s.flow->config();
  const int page = static_cast<int>(config.page_size);
  std::vector<cuda::SequencePlan> plans;
  for (const int tokens : s.tokens.download(*s.stream)) {
    const ir::RowPages row = ir::row_pages(config, true, (tokens + page - 1) / page);
    plans.push_back({tokens, static_cast<int>(row.pages), row.candidates > 0 ? static_cast<int>(row.first) : 0,
                     static_cast<int>(row.candidates), static_cast<int>(row.chosen), static_cast<int>(row.chosen), 0});
  }
  s.plans.upload(*s.stream, plans.data());
}

std::vector<double> FastStep::time(device::Graph& graph, int n) {
  State& s = *state_;
  std::vector<std::unique_ptr<device::Event>> events;
  for (int i = 0; i <= n; ++i) {
    events.push_back(device_->make_event());
    s.stream->record(*events.back());
    if (i < n) s.stream->launch(graph);
  }
  s.stream->synchronize();
  std::vector<double> out;
  for (int i = 0; i < n; ++i)
    out.push_back(
        device_->milliseconds(*events[static_cast<std::size_t>(i)], *events[static_cast<std::size_t>(i) + 1]));
  return out;
}

FastStep::Log FastStep::log() {
  State& s = *state_;
  Log out;
  if (s.sparse) out.listed = s.log_listed.download(*s.stream), out.physical = s.log_physical.download(*s.stream);
  out.stride = s.physical_stride;
  out.logits = s.logits.download(*s.stream);
  out.tokens = s.tokens.download(*s.stream);
  out.next = s.next.download(*s.stream);
  return out;
}

std::int64_t FastStep::bytes_of(Part part) const {
  const State& s = *state_;
  const StepModel& m = model_;
  const std::int64_t n = options_.sequences;
  const std::int64_t token = 2LL * m.kv_width() * 2;
  switch (part) {
    case Part::qkv:
      return weights_->qkv->weight_bytes();
    case Part::output:
      return weights_->output->weight_bytes();
    case Part::gate_up:
      return weights_->gate_up->weight_bytes();
    case Part::down:
      return weights_->down->weight_bytes();
    case Part::head:
      return weights_->head->weight_bytes();
    case Part::attend:
      return n * token * (s.sparse ? std::min<std::int64_t>(s.budget_tokens, options_.context) : options_.context);
    case Part::score: {
      std::int64_t bytes = 0;
      for (const codegen::FieldLayout& field : s.flow->flow().fields)
        bytes += field.elements * (field.dtype == ir::DType::bf16 ? 2 : 4);
      return s.sparse ? n * m.kv_heads * bytes * s.flow->candidates(options_.context) : 0;
    }
    default:
      return 0;
  }
}

std::string FastStep::describe_linears() const {
  std::string out;
  for (const auto* linear : {&weights_->qkv, &weights_->output, &weights_->gate_up, &weights_->down, &weights_->head}) {
    const auto& shape = (*linear)->shape();
    out += concat(out.empty() ? "" : ", ", kernels::describe(shape));
  }
  return out;
}

}  // namespace vortex::gpu_tests
