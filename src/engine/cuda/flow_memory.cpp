#include "engine/cuda/flow_memory.h"

#include <algorithm>

#include "attention/cuda/stored.h"
#include "base/arithmetic.h"
#include "compiler/plan.h"
#include "ir/program.h"

namespace vortex::engine {

namespace {

ir::Geometry compiled_for(const ir::Program& program, const attention::Geometry& g) {
  return {.page_size = program.config.page_size, .head_dim = g.head_dim, .group = g.group, .value_dim = g.value_dim};
}

std::int64_t bytes_of(const codegen::FieldLayout& field) {
  return field.elements * (field.dtype == ir::DType::bf16 ? 2 : 4);
}

// Of each layer, its place among those of one of the flows: the program itself (−1), or that of its others.
std::vector<int> places_of(const ir::Program& program, int which, std::int64_t layers) {
  std::vector<int> of(static_cast<std::size_t>(layers), -1), out(of.size(), -1);
  for (std::size_t i = 0; i < program.others.size(); ++i)
    for (const std::int64_t layer : program.others[i].layers) of[static_cast<std::size_t>(layer)] = static_cast<int>(i);
  int place = 0;
  for (std::size_t layer = 0; layer < of.size(); ++layer)
    if (of[layer] == which) out[layer] = place++;
  return out;
}

// One flow by itself, with what is said once for all layers.
ir::Program alone(const ir::Program& program, const ir::FlowConfig& arrangement) {
  ir::Program out = program;
  out.others.clear();
  out.config.refresh_every = arrangement.refresh_every;
  return out;
}

}  // namespace

CudaFlow::CudaFlow(std::shared_ptr<device::Device> device, const ir::Program& program,
                   const attention::Geometry& geometry, int sequences, int tokens)
    : CudaFlow(device, program, program.config, places_of(program, -1, geometry.layers), geometry, sequences, tokens) {
  by_layer_.assign(static_cast<std::size_t>(geometry.layers), this);
  all_ = {this};
  for (std::size_t i = 0; i < program.others.size(); ++i) {
    others_.emplace_back(new CudaFlow(device, *program.others[i].flow, program.config,
                                      places_of(program, static_cast<int>(i), geometry.layers), geometry, sequences,
                                      tokens));
    for (const std::int64_t layer : program.others[i].layers)
      by_layer_[static_cast<std::size_t>(layer)] = others_.back().get();
    all_.push_back(others_.back().get());
  }
  int pages = 0, rows = 0;
  const auto stream = device_->make_stream();
  for (CudaFlow* each : all_) {
    each->carried_pages_ = pages, each->carried_rows_ = rows;
    for (const codegen::StateLayout& state : each->kernels_.flow().states)
      (state.of_pages ? pages : rows) += static_cast<int>(state.elements);
    rows += each->kept_elements();
    for (std::int64_t layer = geometry.layers - 1; layer >= 0; --layer)
      if (&at(layer) == each && is_sparse(layer) && source_of(layer) == layer)
        each->first_chooser_ = static_cast<int>(layer);
    // Where another flow chose, this one's own counts of the layer stay zero.
    std::vector<int> sources;
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer)
      sources.push_back(static_cast<int>(&at(source_of(layer)) == each ? source_of(layer) : layer));
    each->sources_ = device::upload(device_, *stream, sources);
  }
  nobody_.reserve(carried(), 1);
}

CudaFlow::CudaFlow(std::shared_ptr<device::Device> device, const ir::Program& program,
                   const ir::FlowConfig& arrangement, std::vector<int> places, const attention::Geometry& geometry,
                   int sequences, int tokens)
    : device_(std::move(device)),
      program_(alone(program, arrangement)),
      kernels_(*device_, compiler::compile(program_, compiled_for(program_, geometry)),
               attention::dtype_of(geometry.kv_type)),
      parameters_(device_, kernels_.flow().parameters, program_.weights),
      arrangement_(arrangement),
      places_(std::move(places)),
      geometry_(geometry),
      lists_(sequences * geometry.kv_heads) {
  for (const codegen::FieldLayout& field : kernels_.flow().fields)
    page_bytes_ +=
        bytes_of(field) * geometry.kv_heads * std::ranges::count_if(places_, [](int place) { return place >= 0; });

  list_stride_ = budget(tokens);
  physical_stride_ = list_stride_ * static_cast<int>(config().page_size / geometry.page_size);
  const int capacity = kernels_.candidates(tokens);
  workspace_stride_ = kernels_.workspace_floats(capacity);
  scores_ = {device_, lists_ * capacity};
  if (kernels_.flow().has_rest) rest_ = {device_, lists_ * geometry.group * (1 + geometry.head_dim)};
  workspace_ = {device_, std::max<std::int64_t>(lists_ * workspace_stride_, 1)};
  pages_of_rows_ = {device_, lists_ * list_stride_};
  counts_ = {device_, geometry.layers * lists_}, listed_ = {device_, geometry.layers * lists_};
  const int slots = place_slots();
  physical_ = {device_, slots * lists_ * physical_stride_};
  plans_ = {device_, (plans_layers() ? geometry.layers : 1) * sequences};
  const auto stream = device_->make_stream();
  arrivals_ = {device_, lists_};
  arrivals_.fill(*stream, 0);
  counts_.fill(*stream, 0), listed_.fill(*stream, 0);  // those of full-attention layers are added up too
  stream->synchronize();
}

std::int64_t CudaFlow::page_bytes() const {
  std::int64_t bytes = 0;
  for (const CudaFlow* each : all_) bytes += each->page_bytes_;
  return bytes;
}

// Layers that choose share one slot, unless a layer in between would overwrite lists that a later one attends.
int CudaFlow::place_slots() {
  slots_.assign(static_cast<std::size_t>(geometry_.layers), 0);
  bool in_turn = true;
  std::int64_t last = -1;
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) {
    if (!is_sparse(layer)) continue;
    const std::int64_t source = source_of(layer);
    in_turn = in_turn && (source == layer || source == last);
    if (source == layer) last = layer;
  }
  if (in_turn) return 1;
  int slots = 1;
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) {
    if (!is_sparse(layer) || source_of(layer) == layer) continue;
    int& slot = slots_[static_cast<std::size_t>(source_of(layer))];
    if (slot == 0) slot = slots++;
  }
  return slots;
}

ir::RowPages CudaFlow::rows(std::int64_t tokens, std::int64_t step, std::int64_t layer) const {
  return kernels_.rows()(config(), {.geometry = {.page_size = config().page_size},
                                    .tokens = tokens,
                                    .step = step,
                                    .layer = layer,
                                    .layers = geometry_.layers,
                                    .scale = static_cast<double>(geometry_.scale)});
}

std::int64_t CudaFlow::read_bytes(const ir::RowPages& row, std::int64_t tokens) const {
  std::int64_t bytes = 0;
  for (const codegen::FieldLayout& field : kernels_.flow().fields)
    bytes +=
        bytes_of(field) *
        (field.pages == 1 ? row.candidates
                          : ir::groups_of(field.pages, row.first, row.candidates, tokens / config().page_size).count);
  return bytes;
}

attention::CarriedLayout CudaFlow::carried() const {
  attention::CarriedLayout out{.layers = geometry_.layers,
                               .kv_heads = geometry_.kv_heads,
                               .page_size = config().page_size,
                               .sets = keeps(),
                               .device = device_};
  for (const CudaFlow* each : all_) {
    out.states.insert(out.states.end(), each->kernels_.flow().states.begin(), each->kernels_.flow().states.end());
    if (keeps()) out.states.push_back({"lists", each->kept_elements(), false, 0.0f});
  }
  return out;
}

// As the planner says on the device.
bool CudaFlow::recalls(const attention::RowMemory& memory, const ir::RowPages& row, std::int64_t step,
                       std::int64_t layer) const {
  const std::int64_t kept = memory.kept_pages(layer);
  return row.selects() && step % config().refresh_every != 0 && kept > 0 && kept <= row.pages &&
         row.pages - kept <= attention::kept_margin(config());
}

bool CudaFlow::reads(const ir::RowPages& row, std::int64_t page) const {
  const std::int64_t end = row.first + row.candidates;
  if (page < end) return page >= row.first;
  return std::ranges::any_of(kernels_.flow().fields, [&](const codegen::FieldLayout& field) {
    return (page + 1) % field.pages == 0 && page + 1 - field.pages < end;
  });
}

int CudaFlow::budget(std::int64_t tokens) const {
  const std::int64_t most = ir::most_attended(program_, kernels_.rows(), config(),
                                              {.geometry = {.page_size = config().page_size},
                                               .tokens = tokens,
                                               .layers = geometry_.layers,
                                               .scale = static_cast<double>(geometry_.scale)});
  return static_cast<int>(std::min(most + attention::kept_margin(config()), ceil_div(tokens, config().page_size)));
}

void CudaFlow::allocate(std::int64_t pages) {
  for (const auto& other : others_) other->allocate(pages);
  const std::int64_t layers = std::ranges::count_if(places_, [](int place) { return place >= 0; });
  std::vector<device::Array<std::uint8_t>> fields;
  for (const codegen::FieldLayout& field : kernels_.flow().fields)
    fields.emplace_back(device_,
                        std::max<std::int64_t>(layers, 1) * (pages + 1) * geometry_.kv_heads * bytes_of(field));
  fields_ = std::move(fields);
  valid_.assign(static_cast<std::size_t>(pages), 0);
  pages_ = pages;
}

std::vector<vortex_field> CudaFlow::fields(int layer) const {
  std::vector<vortex_field> out;
  const std::int64_t place = places_[static_cast<std::size_t>(layer)];
  for (std::size_t f = 0; f < fields_.size(); ++f) {
    const codegen::FieldLayout& field = kernels_.flow().fields[f];
    out.push_back({fields_[f].data() + place * (pages_ + 1) * geometry_.kv_heads * bytes_of(field),
                   geometry_.kv_heads * field.elements, field.elements});
  }
  return out;
}

attention::CudaScores CudaFlow::scores(int layer, int sequences, std::int64_t tokens) const {
  return {.plans = plans_.data() + (plans_layers() ? layer * sequences : 0),
          .scores = scores_.data(),
          .workspace = workspace_.data(),
          .workspace_stride = workspace_stride_,
          .capacity = kernels_.candidates(tokens),
          .arrivals = arrivals_.data(),
          .rest = rest_.data()};
}

void CudaFlow::keep_lists() {
  if (keeps_) return;
  for (const auto& other : others_) other->keep_lists();
  pages_of_rows_ = {device_, geometry_.layers * lists_ * list_stride_};
  keeps_ = true;
}

attention::CudaSelection CudaFlow::selection(int layer, bool keep) const {
  const std::int64_t first = layer * lists_;
  return {{static_cast<int>(config().page_size), pages_of_rows_.data() + (keep ? first * list_stride_ : 0),
           list_stride_, counts_.data() + first},
          physical_.data() + slots_[static_cast<std::size_t>(layer)] * lists_ * physical_stride_,
          physical_stride_,
          listed_.data() + first};
}

}  // namespace vortex::engine
