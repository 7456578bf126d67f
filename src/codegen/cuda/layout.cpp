#include "codegen/cuda/layout.h"

#include <algorithm>

#include "base/check.h"
#include "codegen/cuda/scope.h"

namespace vortex::codegen {

namespace {

using compiler::Stage;
using compiler::StageKind;
using ir::Node;
using ir::OpKind;
using ir::ValueId;

constexpr std::int64_t kMostRowNodes = 16;  // of a row stage that is printed where its values are used

}  // namespace

bool is_page(const ir::Type& type) { return type.domain.has_instances(); }
bool is_loop(const Node& node) {
  return node.op->kind == OpKind::reduction || node.op->kind == OpKind::along || node.op->kind == OpKind::contraction ||
         node.op->kind == OpKind::selection;
}

CudaLayout::CudaLayout(const compiler::Plan& plan) : plan_(plan) {
  for (const ir::Summary& summary : plan.program.summaries) {
    const Node& node = plan.program.node(summary.value);
    fields_.push_back(
        {summary.name, elements_of(plan, node.type), plan.program.config.summary_dtype, node.type.domain.pages});
  }
  for (const Node* node : ir::parameters_of(plan.program))
    parameters_.push_back({ir::text_of(node->attributes, "name"), node->type.axes.size()});
  for (const ir::State& state : plan.program.states) {
    const Node& reader = *ir::reader_of(plan.program, state.name);
    states_.push_back({state.name, elements_of(plan, reader.type), is_page(reader.type),
                       static_cast<float>(ir::number_of(reader.attributes, "initial"))});
  }
  cut_stages();
  for (const Stage& stage : stages_) {
    if (stage.kind == StageKind::summarize) continue;
    for (const ValueId value : stage.outputs) place(value);
    if (stage.kind != StageKind::finish) continue;
    for (const ValueId value : stage.nodes) {  // of every candidate at once: too many for shared memory
      const Node& node = plan.program.node(value);
      if (is_stored(node) && is_page(node.type)) place(value);
    }
  }
}

bool CudaLayout::is_stored(const Node& node) const {
  return is_loop(node) || (node.op->name == "shift" && plan_.program.node(node.inputs[0]).op->kind != OpKind::source);
}

bool CudaLayout::is_long(const Node& node) const {
  if (!is_loop(node)) return false;
  const std::string axis = ir::axis_of(node);
  return axis != "page" && extent_of(plan_, *ir::find_axis(plan_.program.node(node.inputs[0]).type, axis)) >= kWarp;
}

std::optional<CudaLayout::Product> CudaLayout::product_of(ValueId value) const {
  const Node& node = plan_.program.node(value);
  if (node.op->kind != OpKind::contraction || !is_page(node.type)) return std::nullopt;
  const std::string axis = ir::axis_of(node);
  for (const int which : {0, 1}) {
    const Product out{node.inputs[static_cast<std::size_t>(which)], node.inputs[static_cast<std::size_t>(1 - which)]};
    const Node &pages = plan_.program.node(out.pages), &row = plan_.program.node(out.row);
    if (pages.op->name != "summary" || plan_.program.config.summary_dtype != ir::DType::bf16) continue;
    if (is_page(row.type) || row.type.axes.size() > 2 || !ir::find_axis(row.type, axis)) continue;
    if (pages.type.axes.empty() || pages.type.axes.back().name != axis) continue;
    if (extent_of(plan_, pages.type.axes.back()) % kWarp != 0) continue;
    bool fits = true;
    for (const ir::Axis& other : row.type.axes)
      if (other.name != axis)
        fits = fits && extent_of(plan_, other) <= kMostColumns && !ir::find_axis(pages.type, other.name);
    if (fits) return out;
  }
  return std::nullopt;
}

void CudaLayout::cut_stages() {
  stages_ = plan_.stages;
  std::erase_if(stages_, [&](const Stage& stage) {  // a few steps without loops: cheaper made twice than stored
    return stage.kind == StageKind::row && std::ssize(stage.nodes) <= kMostRowNodes &&
           std::none_of(stage.nodes.begin(), stage.nodes.end(),
                        [&](ValueId value) { return is_loop(plan_.program.node(value)) || value == ranked(); });
  });
  // What a state will be is stored by the last stage.
  for (const ir::State& state : plan_.program.states)
    for (Stage& stage : stages_)
      if (stage.kind != StageKind::summarize && std::ranges::count(stage.nodes, state.value) != 0 &&
          std::ranges::count(stage.outputs, state.value) == 0)
        stage.outputs.push_back(state.value);
  const auto heavy = [&](const Stage& stage) {
    return stage.kind == StageKind::page && std::any_of(stage.nodes.begin(), stage.nodes.end(), [&](ValueId value) {
             return is_long(plan_.program.node(value));
           });
  };
  std::size_t from = stages_.size();
  while (from > 0 && stages_[from - 1].kind != StageKind::summarize && !heavy(stages_[from - 1])) --from;
  while (from < stages_.size() && stages_[from].kind == StageKind::row) ++from;  // what only other stages need
  if (from < stages_.size() || !states_.empty()) join_stages(from);
  // Sets whose pages other values run over are read over and over.
  for (Stage& stage : stages_) {
    if (stage.kind == StageKind::summarize) continue;
    for (const ValueId value : stage.nodes) {
      if (is_listed(value) && std::ranges::find(stage.outputs, value) == stage.outputs.end())
        stage.outputs.push_back(value);
    }
  }
}

bool CudaLayout::is_listed(ValueId value) const {
  return std::ranges::any_of(
      plan_.program.nodes, [&](const Node& node) { return node.op->kind == OpKind::list && node.inputs[0] == value; });
}

void CudaLayout::join_stages(std::size_t from) {
  Stage all{.kind = StageKind::finish, .nodes = {}, .inputs = {}, .outputs = {}};
  for (std::size_t i = from; i < stages_.size(); ++i)
    all.nodes.insert(all.nodes.end(), stages_[i].nodes.begin(), stages_[i].nodes.end());
  all.outputs = {ranked()};
  stages_.resize(from);
  stages_.push_back(all);
  last_ = from;
}

void CudaLayout::place(ValueId value) {
  const Node& node = plan_.program.node(value);
  // What is ranked goes where it is asked for, and to the workspace where other values may be made of it.
  const bool is_read = !states_.empty() || node.op->kind == OpKind::selection || is_listed(value);
  if ((value == ranked() && !is_read) || slots_.contains(value)) return;
  if (node.op->kind == OpKind::source || node.op->kind == OpKind::list) return;
  const ir::Type& type = node.type;
  std::int64_t& floats = is_page(type) ? page_floats_ : row_floats_;
  slots_[value] = {is_page(type), floats};
  floats += elements_of(plan_, type);
}

const CudaLayout::Slot* CudaLayout::slot_of(ValueId value) const {
  const auto found = slots_.find(value);
  return found == slots_.end() ? nullptr : &found->second;
}

std::size_t CudaLayout::field_of(const std::string& name) const {
  for (std::size_t i = 0; i < fields_.size(); ++i)
    if (fields_[i].name == name) return i;
  VORTEX_CHECK(false, "no field ", name);
}

std::size_t CudaLayout::state_of(const std::string& name) const {
  std::size_t i = 0;
  while (i < states_.size() && states_[i].name != name) ++i;
  return i;
}

std::size_t CudaLayout::parameter_of(const std::string& name) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return i;
  VORTEX_CHECK(false, "no parameter ", name);
}

}  // namespace vortex::codegen
