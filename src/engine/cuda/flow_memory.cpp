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
      planned_(program.config),
      has_score_(program.chooses()),
      geometry_(geometry),
      lists_(sequences * geometry.kv_heads) {
  if (!has_score_) planned_.budget = 0, planned_.budget_ratio = 0.0;
  for (const codegen::FieldLayout& field : kernels_.flow().fields)
    page_bytes_ += bytes_of(field) * geometry.layers * geometry.kv_heads;

  nobody_.reserve(carried(), 1);
  list_stride_ = budget(tokens);
  physical_stride_ = list_stride_ * static_cast<int>(config().page_size / geometry.page_size);
  const int capacity = kernels_.candidates(tokens);
  workspace_stride_ = kernels_.workspace_floats(capacity);
  scores_ = {device_, lists_ * capacity};
  workspace_ = {device_, std::max<std::int64_t>(lists_ * workspace_stride_, 1)};
  pages_of_rows_ = {device_, lists_ * list_stride_};
  counts_ = {device_, geometry.layers * lists_}, listed_ = {device_, geometry.layers * lists_};
  physical_ = {device_, lists_ * physical_stride_};
  plans_ = {device_, sequences};
  const auto stream = device_->make_stream();
  arrivals_ = {device_, lists_};
  arrivals_.fill(*stream, 0);
  counts_.fill(*stream, 0), listed_.fill(*stream, 0);  // those of full-attention layers are added up too
  stream->synchronize();
}

bool CudaFlow::is_sparse(std::int64_t layer) const {
  return std::ranges::count(config().full_attention_layers, layer) == 0;
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
  return static_cast<int>(ir::budget_of(planned_, ceil_div(tokens, config().page_size)));
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

attention::CudaScores CudaFlow::scores(std::int64_t tokens) const {
  return {plans_.data(),   scores_.data(), workspace_.data(), workspace_stride_, kernels_.candidates(tokens),
          arrivals_.data()};
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
          physical_.data(),
          physical_stride_,
          listed_.data() + first};
}

}  // namespace vortex::engine
