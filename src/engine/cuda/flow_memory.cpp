#include "engine/cuda/flow_memory.h"

#include <algorithm>

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

}  // namespace

CudaFlow::CudaFlow(std::shared_ptr<device::Device> device, const ir::Program& program,
                   const attention::Geometry& geometry, int sequences, int tokens)
    : device_(std::move(device)),
      kernels_(*device_, compiler::compile(program, compiled_for(program, geometry))),
      parameters_(device_, kernels_.flow().parameters, program.weights),
      program_(program),
      geometry_(geometry),
      lists_(sequences * geometry.kv_heads) {
  for (const codegen::FieldLayout& field : kernels_.flow().fields)
    page_bytes_ += bytes_of(field) * geometry.layers * geometry.kv_heads;

  nobody_.reserve(carried(), 1);
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
  std::vector<int> sources;
  for (std::int64_t layer = 0; layer < geometry.layers; ++layer)
    sources.push_back(static_cast<int>(config().source_of(layer)));
  sources_ = device::upload(device_, *stream, sources);
  stream->synchronize();
}

// Layers that choose share one slot, unless a layer in between would overwrite lists that a later one attends.
int CudaFlow::place_slots() {
  slots_.assign(static_cast<std::size_t>(geometry_.layers), 0);
  bool in_turn = true;
  std::int64_t last = -1;
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) {
    if (!is_sparse(layer)) continue;
    const std::int64_t source = config().source_of(layer);
    in_turn = in_turn && (source == layer || source == last);
    if (source == layer) last = layer;
  }
  if (in_turn) return 1;
  int slots = 1;
  for (std::int64_t layer = 0; layer < geometry_.layers; ++layer) {
    if (!is_sparse(layer) || config().source_of(layer) == layer) continue;
    int& slot = slots_[static_cast<std::size_t>(config().source_of(layer))];
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
  if (!has_state()) return {};
  return {.layers = geometry_.layers,
          .kv_heads = geometry_.kv_heads,
          .page_size = config().page_size,
          .states = kernels_.flow().states,
          .device = device_};
}

bool CudaFlow::reads(const ir::RowPages& row, std::int64_t page) const {
  const std::int64_t end = row.first + row.candidates;
  if (page < end) return page >= row.first;
  return std::ranges::any_of(kernels_.flow().fields, [&](const codegen::FieldLayout& field) {
    return (page + 1) % field.pages == 0 && page + 1 - field.pages < end;
  });
}

int CudaFlow::budget(std::int64_t tokens) const {
  return static_cast<int>(ir::most_attended(program_, kernels_.rows(), config(),
                                            {.geometry = {.page_size = config().page_size},
                                             .tokens = tokens,
                                             .layers = geometry_.layers,
                                             .scale = static_cast<double>(geometry_.scale)}));
}

void CudaFlow::allocate(std::int64_t pages) {
  std::vector<device::Array<std::uint8_t>> fields;
  for (const codegen::FieldLayout& field : kernels_.flow().fields)
    fields.emplace_back(device_, geometry_.layers * pages * geometry_.kv_heads * bytes_of(field));
  fields_ = std::move(fields);
  valid_.assign(static_cast<std::size_t>(pages), 0);
  pages_ = pages;
}

std::vector<vortex_field> CudaFlow::fields(int layer) const {
  std::vector<vortex_field> out;
  for (std::size_t f = 0; f < fields_.size(); ++f) {
    const codegen::FieldLayout& field = kernels_.flow().fields[f];
    out.push_back({fields_[f].data() + layer * pages_ * geometry_.kv_heads * bytes_of(field),
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
