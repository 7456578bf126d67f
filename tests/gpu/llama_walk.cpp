#include "gpu/llama_walk.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "attention/cuda/chain.h"
#include "base/check.h"
#include "gpu/record_arguments.h"
#include "kernels/cuda/step.h"

namespace vortex::gpu_tests {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

using device::Array;

device::Source record_source() {
  return {.name = "record",
          .text = std::string(device_source("gpu/record.cuh")),
          .headers = {device::device_header(),
                      {"gpu/record_arguments.h", std::string(device_source("gpu/record_arguments.h"))}},
          .kernels = {"record_lists", "record_step"}};
}

struct Layer {
  Array<float> attention_norm, ffn_norm, qkv, output, gate_up, down;
};

class Walk {
 public:
  Walk(const std::shared_ptr<device::Device>& device, const models::ModelConfig& config, const models::Weights& weights,
       const std::optional<compiler::Plan>& plan, const std::vector<std::vector<int>>& prompts,
       const WalkOptions& options)
      : device_(device),
        c_(config),
        weights_(weights),
        options_(options),
        stream_(device->make_stream()),
        step_(*device),
        chain_(make_chain(*device)),
        record_(device->load(record_source())),
        sequences_(static_cast<int>(prompts.size())) {
    if (plan) flow_.emplace(*device, *plan);
    list_page_ = flow_ ? static_cast<int>(flow_->config().page_size) : options.page_size;
    for (const auto& prompt : prompts) longest_ = std::max(longest_, static_cast<int>(prompt.size()));
    positions_ = longest_ + options.decode_tokens;
    max_pages_ = (positions_ + list_page_ - 1) / list_page_;
    load_weights();
    make_state(prompts);
  }

  WalkResult run() {
    stream_->begin_capture();
    put_step();
    const auto graph = stream_->end_capture();
    std::vector<std::unique_ptr<device::Event>> events;
    for (int i = 0; i < positions_; ++i) {
      if (i >= longest_) {
        events.push_back(device_->make_event());
        stream_->record(*events.back());
      }
      stream_->launch(*graph);
    }
    events.push_back(device_->make_event());
    stream_->record(*events.back());
    stream_->synchronize();

    WalkResult out;
    out.positions = positions_, out.sequences = sequences_, out.layers = static_cast<int>(c_.layers);
    out.kv_heads = static_cast<int>(c_.kv_heads), out.list_stride = max_pages_,
    out.vocabulary = static_cast<int>(c_.vocabulary);
    out.list_page_size = list_page_;
    out.tokens = token_log_.download(*stream_);
    const std::vector<int> next = next_.download(*stream_);
    out.tokens.insert(out.tokens.end(), next.begin(), next.end());
    out.logits = logit_log_.download(*stream_);
    out.lists = list_log_.download(*stream_);
    out.counts = count_log_.download(*stream_);
    out.lengths = tokens_.download(*stream_);
    out.kv = kv_.download(*stream_);
    out.graph_nodes = graph->nodes();
    out.device_bytes = device_->allocated_bytes();
    out.device = device_->describe();
    if (flow_) out.flow_build = flow_->report();
    std::vector<double> times;
    for (std::size_t i = 0; i + 1 < events.size(); ++i)
      times.push_back(device_->milliseconds(*events[i], *events[i + 1]));
    std::sort(times.begin(), times.end());
    out.milliseconds_per_step = times.empty() ? 0.0 : times[times.size() / 2];
    return out;
  }

 private:
  // The tuned attend where the geometry is served.
  attention::CudaChain make_chain(device::Device& device) const {
    if (c_.head_dim % 64 != 0) return attention::CudaChain(device);
    return attention::CudaChain(device, geometry());
  }

  Array<float> matrix(const std::vector<std::string>& names) {
    std::vector<float> all;
    for (const std::string& name : names) {
      const kernels::WeightView& view = weights_.at(name);
      VORTEX_CHECK(view.format == kernels::WeightFormat::f32, name);
      const auto* values = static_cast<const float*>(view.data);
      all.insert(all.end(), values, values + view.rows * view.columns);
    }
    return device::upload(device_, *stream_, all);
  }

  void load_weights() {
    embedding_ = matrix({"model.embed_tokens.weight"});
    final_norm_ = matrix({"model.norm.weight"});
    if (!c_.tied_embeddings) head_ = matrix({"lm_head.weight"});
    for (std::int64_t i = 0; i < c_.layers; ++i) {
      const std::string layer = concat("model.layers.", i, ".");
      layers_.push_back({matrix({layer + "input_layernorm.weight"}),
                         matrix({layer + "post_attention_layernorm.weight"}),
                         matrix({layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight",
                                 layer + "self_attn.v_proj.weight"}),
                         matrix({layer + "self_attn.o_proj.weight"}),
                         matrix({layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"}),
                         matrix({layer + "mlp.down_proj.weight"})});
    }
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < c_.head_dim / 2; ++i)
      frequency.push_back(static_cast<float>(std::pow(
          static_cast<double>(c_.rope_base), -2.0 * static_cast<double>(i) / static_cast<double>(c_.head_dim))));
    frequency_ = device::upload(device_, *stream_, frequency);
  }

  template <class T>
  Array<T> poisoned(std::int64_t count) {  // NaN as float or bfloat16, −1 as int
    Array<T> out(device_, count);
    out.fill(*stream_, 0xff);
    return out;
  }

  void make_state(const std::vector<std::vector<int>>& prompts) {
    const std::int64_t n = sequences_, rows = n * c_.kv_heads, q_width = c_.heads * c_.head_dim;
    // Room for whole flow pages, so that the table has an entry wherever a flow page ends.
    const int table = max_pages_ * (list_page_ / options_.page_size);
    std::vector<int> pages(static_cast<std::size_t>(n * table));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937_64(options_.seed));
    tables_ = device::upload(device_, *stream_, pages);
    table_stride_ = table;
    pool_pages_ = n * table;
    kv_ = poisoned<std::uint16_t>(c_.layers * kv_layer());

    std::vector<int> first, lengths, flat(static_cast<std::size_t>(n * longest_), 0);
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      first.push_back(prompts[s].at(0));
      lengths.push_back(static_cast<int>(prompts[s].size()));
      std::copy(prompts[s].begin(), prompts[s].end(),
                flat.begin() + static_cast<std::ptrdiff_t>(s * static_cast<std::size_t>(longest_)));
    }
    next_ = device::upload(device_, *stream_, first);
    prompt_lengths_ = device::upload(device_, *stream_, lengths);
    prompt_ = device::upload(device_, *stream_, flat);
    tokens_ = device::upload(device_, *stream_, std::vector<int>(static_cast<std::size_t>(n), 1));
    steps_ = device::upload(device_, *stream_, std::vector<std::int64_t>(static_cast<std::size_t>(n), 0));

    x_ = poisoned<float>(n * c_.width);
    normed_ = poisoned<float>(n * c_.width);
    qkv_ = poisoned<float>(n * qkv_width());
    attended_ = poisoned<float>(n * q_width);
    gate_up_ = poisoned<float>(n * 2 * c_.ffn_width);
    hidden_ = poisoned<float>(n * c_.ffn_width);
    logits_ = poisoned<float>(n * c_.vocabulary);
    for (auto& plans : plans_) plans = poisoned<cuda::SequencePlan>(n);
    pages_ = poisoned<int>(rows * max_pages_);
    counts_ = poisoned<int>(rows);
    physical_ = poisoned<int>(rows * table_stride_);
    listed_ = poisoned<int>(rows);
    partial_ = poisoned<float>(attention::CudaChain::partial_floats(geometry(), sequences_, positions_));
    if (flow_) {
      capacity_ = flow_->candidates(positions_);
      scores_ = poisoned<float>(rows * capacity_);
      workspace_stride_ = flow_->workspace_floats(capacity_);
      arrivals_ = Array<int>(device_, rows);
      arrivals_.fill(*stream_, 0);
      workspace_ = poisoned<float>(std::max<std::int64_t>(rows * workspace_stride_, 1));
      for (const codegen::FieldLayout& field : flow_->flow().fields)
        fields_.push_back(poisoned<std::uint8_t>(c_.layers * field_layer(field)));
    }
    token_log_ = poisoned<int>(positions_ * n);
    logit_log_ = poisoned<float>(positions_ * n * c_.vocabulary);
    list_log_ = poisoned<int>(positions_ * c_.layers * rows * max_pages_);
    count_log_ = poisoned<int>(positions_ * c_.layers * rows);
    stream_->synchronize();
  }

  std::int64_t qkv_width() const { return (c_.heads + 2 * c_.kv_heads) * c_.head_dim; }
  std::int64_t kv_layer() const { return pool_pages_ * c_.kv_heads * 2 * options_.page_size * c_.head_dim; }
  std::int64_t field_layer(const codegen::FieldLayout& field) const {  // in bytes
    return pool_pages_ * c_.kv_heads * field.elements * (field.dtype == ir::DType::bf16 ? 2 : 4);
  }
  vortex_geometry geometry() const {
    return {static_cast<int>(c_.kv_heads),
            static_cast<int>(c_.heads / c_.kv_heads),
            static_cast<int>(c_.head_dim),
            options_.page_size,
            1.0f / std::sqrt(static_cast<float>(c_.head_dim)),
            0,
            0};
  }
  vortex_batch batch() const {
    return {sequences_, tables_.data(), table_stride_, tokens_.data(), nullptr, steps_.data()};
  }
  vortex_kv kv(std::int64_t layer) const {
    const std::int64_t page = options_.page_size * c_.head_dim;
    std::uint16_t* const k = kv_.data() + layer * kv_layer();
    return {VORTEX_BFLOAT16,
            {k, c_.kv_heads * 2 * page, 2 * page, c_.head_dim},
            {k + page, c_.kv_heads * 2 * page, 2 * page, c_.head_dim},
            {},
            {}};
  }
  bool is_sparse(std::int64_t layer) const {
    if (!flow_) return false;
    const auto& full = flow_->config().full_attention_layers;
    return std::find(full.begin(), full.end(), layer) == full.end();
  }

  void linear(const Array<float>& weight, const Array<float>& x, const Array<float>& out, std::int64_t rows,
              std::int64_t columns, bool add) {
    step_.linear(*stream_,
                 {weight.data(), x.data(), out.data(), static_cast<int>(rows), static_cast<int>(columns), add ? 1 : 0},
                 sequences_);
  }
  void norm(const Array<float>& weight) {
    step_.rms_norm(*stream_, {x_.data(), weight.data(), normed_.data(), static_cast<int>(c_.width), c_.rms_epsilon},
                   sequences_);
  }

  void put_plan(int which, const ir::FlowConfig* config) {
    chain_.plan(*stream_, batch(), config, list_page_, prompt_lengths_.data(), plans_[which].data());
  }

  void put_attention(std::int64_t number) {
    const std::int64_t q_width = c_.heads * c_.head_dim, kv_width = c_.kv_heads * c_.head_dim;
    step_.rope(*stream_,
               {qkv_.data(), tokens_.data(), frequency_.data(), static_cast<int>(qkv_width()),
                static_cast<int>(c_.heads + c_.kv_heads), static_cast<int>(c_.head_dim)},
               sequences_);
    const attention::CudaLayer layer{.geometry = geometry(),
                                     .kv = kv(number),
                                     .batch = batch(),
                                     .q = qkv_.data(),
                                     .q_stride = qkv_width(),
                                     .layer = static_cast<int>(number),
                                     .layers = static_cast<int>(c_.layers)};
    chain_.append(*stream_, layer, qkv_.data() + q_width, qkv_.data() + q_width + kv_width, qkv_width());
    const bool sparse = is_sparse(number);
    const attention::CudaScores scores{.plans = plans_[sparse ? 1 : 0].data(),
                                       .scores = scores_.data(),
                                       .workspace = workspace_.data(),
                                       .workspace_stride = workspace_stride_,
                                       .capacity = capacity_,
                                       .arrivals = arrivals_.data()};
    const attention::CudaSelection selection{.lists = {list_page_, pages_.data(), max_pages_, counts_.data()},
                                             .physical = physical_.data(),
                                             .physical_stride = table_stride_,
                                             .listed = listed_.data()};
    if (sparse) {
      std::vector<vortex_field> fields;
      for (std::size_t f = 0; f < fields_.size(); ++f) {
        const codegen::FieldLayout& field = flow_->flow().fields[f];
        fields.push_back(
            {fields_[f].data() + number * field_layer(field), c_.kv_heads * field.elements, field.elements});
      }
      flow_->summarize(*stream_, layer, fields);
      flow_->select(*stream_, layer, fields, scores, selection);
    } else {
      chain_.select(*stream_, layer.geometry, layer.batch, scores, selection);
    }
    stream_->launch(record_->kernel("record_lists"),
                    {static_cast<unsigned>(c_.kv_heads), static_cast<unsigned>(sequences_)}, {32},
                    cuda::RecordListsArguments{tokens_.data(), pages_.data(), counts_.data(), max_pages_, layer.layer,
                                               layer.layers, list_log_.data(), count_log_.data()});
    chain_.attend(*stream_, layer, selection.attended(), positions_, partial_.data(), {.out = attended_.data()});
  }

  void put_step() {
    const int width = static_cast<int>(c_.width), ffn = static_cast<int>(c_.ffn_width),
              vocabulary = static_cast<int>(c_.vocabulary);
    put_plan(0, nullptr);
    if (flow_) put_plan(1, &flow_->config());
    step_.embed(*stream_, {embedding_.data(), next_.data(), x_.data(), width}, sequences_);
    for (std::int64_t i = 0; i < c_.layers; ++i) {
      const Layer& layer = layers_[static_cast<std::size_t>(i)];
      norm(layer.attention_norm);
      linear(layer.qkv, normed_, qkv_, qkv_width(), width, false);
      put_attention(i);
      linear(layer.output, attended_, x_, width, c_.heads * c_.head_dim, true);
      norm(layer.ffn_norm);
      linear(layer.gate_up, normed_, gate_up_, 2 * ffn, width, false);
      step_.swiglu(*stream_, {gate_up_.data(), hidden_.data(), ffn}, sequences_);
      linear(layer.down, hidden_, x_, width, ffn, true);
    }
    norm(final_norm_);
    linear(c_.tied_embeddings ? embedding_ : head_, normed_, logits_, vocabulary, width, false);
    stream_->launch(record_->kernel("record_step"), {static_cast<unsigned>(sequences_)}, {128},
                    cuda::RecordStepArguments{tokens_.data(), next_.data(), logits_.data(), vocabulary,
                                              token_log_.data(), logit_log_.data()});
    step_.sample(*stream_,
                 {logits_.data(), prompt_.data(), prompt_lengths_.data(), longest_, vocabulary, next_.data(),
                  tokens_.data(), positions_ + 1, reinterpret_cast<long long*>(steps_.data())},
                 sequences_);
  }

  std::shared_ptr<device::Device> device_;
  models::ModelConfig c_;
  const models::Weights& weights_;
  WalkOptions options_;
  std::unique_ptr<device::Stream> stream_;
  kernels::CudaStepKernels step_;
  attention::CudaChain chain_;
  std::unique_ptr<device::Module> record_;
  std::optional<attention::CudaFlowKernels> flow_;
  int sequences_, longest_ = 0, positions_ = 0, list_page_ = 0, max_pages_ = 0, capacity_ = 1;
  std::int64_t table_stride_ = 0, pool_pages_ = 0, workspace_stride_ = 0;
  std::vector<Layer> layers_;
  Array<float> embedding_, final_norm_, head_, frequency_;
  Array<int> tables_, next_, tokens_, prompt_, prompt_lengths_, pages_, counts_, physical_, listed_, token_log_,
      list_log_, count_log_;
  Array<std::int64_t> steps_;
  Array<std::uint16_t> kv_;
  Array<cuda::SequencePlan> plans_[2];  // full attention, the flow
  Array<int> arrivals_;
  Array<float> x_, normed_, qkv_, attended_, gate_up_, hidden_, logits_, partial_, scores_, workspace_, logit_log_;
  std::vector<Array<std::uint8_t>> fields_;
};

}  // namespace

std::vector<std::int64_t> WalkResult::list(int position, int layer, int row) const {
  const std::size_t at =
      (static_cast<std::size_t>(position) * static_cast<std::size_t>(layers) + static_cast<std::size_t>(layer)) *
          static_cast<std::size_t>(sequences * kv_heads) +
      static_cast<std::size_t>(row);
  const auto begin = lists.begin() + static_cast<std::ptrdiff_t>(at * static_cast<std::size_t>(list_stride));
  return {begin, begin + counts[at]};
}

WalkResult walk(const std::shared_ptr<device::Device>& device, const models::ModelConfig& config,
                const models::Weights& weights, const std::optional<compiler::Plan>& plan,
                const std::vector<std::vector<int>>& prompts, const WalkOptions& options) {
  return Walk(device, config, weights, plan, prompts, options).run();
}

}  // namespace vortex::gpu_tests
