// The budget of a row: numbers of the settings, or the flow's own few nodes over numbers of the sequence.
#include "ir/rows.h"

#include <algorithm>
#include <cmath>

#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::ir {

bool budget_in_numbers(const FlowConfig& config) { return config.budget > 0 || config.budget_ratio > 0.0; }

RowRule::RowRule(const Program& program) : chooses_(program.chooses()), open_(program.selection >= 0) {
  if (program.budget < 0) return;
  std::vector<bool> live(program.nodes.size(), false);
  live[static_cast<std::size_t>(program.budget)] = true;
  for (std::size_t id = live.size(); id-- > 0;)
    if (live[id])
      for (ValueId input : program.nodes[id].inputs) live[static_cast<std::size_t>(input)] = true;
  std::vector<ValueId> moved(live.size(), -1);
  for (std::size_t id = 0; id <= static_cast<std::size_t>(program.budget); ++id) {
    if (!live[id]) continue;
    Node node = program.nodes[id];
    VORTEX_CHECK(node.type.axes.empty() && (node.op->of_sequence || node.op->scalar != nullptr), node.op->name,
                 " in a budget");
    for (ValueId& input : node.inputs) input = moved[static_cast<std::size_t>(input)];
    by_layer_ = by_layer_ || node.op->name == "layer_index";
    by_step_ = by_step_ || node.op->name == "seq_step";
    moved[id] = static_cast<ValueId>(nodes_.size());
    nodes_.push_back(std::move(node));
  }
}

bool RowRule::open(const FlowConfig& config) const { return open_ && nodes_.empty() && !budget_in_numbers(config); }

namespace {

// The most candidates that a set holds.
std::int64_t most_of(const Program& program, ValueId set, std::int64_t left, std::int64_t candidates) {
  const Node& node = program.node(set);
  const std::string& op = node.op->name;
  const auto input = [&](std::size_t i) { return most_of(program, node.inputs[i], left, candidates); };
  if (op == "both") return std::min(input(0), input(1));
  if (op == "either") return std::min(input(0) + input(1), candidates);
  if (node.op->amount != Amount::pages) return candidates;
  const Node& amount = program.node(node.inputs[1]);
  if (amount.op->name == "seq_left") return left;
  if (amount.op->name != "constant") return candidates;
  const double pages = number_of(amount.attributes, "value");
  return pages >= 1.0 ? static_cast<std::int64_t>(std::min(pages, static_cast<double>(candidates))) : 0;
}

}  // namespace

std::int64_t most_attended(const Program& program, const RowRule& rule, const FlowConfig& config,
                           const Environment& longest) {
  const std::int64_t pages = ceil_div(longest.tokens, config.page_size), pinned = pinned_of(config, pages);
  std::int64_t most = 0;
  if (!rule.computed() || budget_in_numbers(config)) {
    most = rule(config, longest).attended;
  } else if (rule.by_step()) {
    most = pages;
  } else {
    Environment at = longest;
    for (at.layer = 0; at.layer < (rule.by_layer() ? longest.layers : 1); ++at.layer)
      for (std::int64_t held = 1; held <= pages; ++held) {
        at.tokens = std::min(held * config.page_size, longest.tokens);
        most = std::max(most, rule(config, at).attended);
      }
  }
  if (program.selection < 0) return most;
  return pinned + most_of(program, program.selection, most - pinned, pages - pinned);
}

RowPages RowRule::operator()(const FlowConfig& config, const Environment& environment) const {
  const std::int64_t page_size = config.page_size;
  const std::int64_t pages = ceil_div(environment.tokens, page_size);
  if (open(config)) {  // the set alone says how many
    RowPages row = row_pages(config, chooses_, pages, pages);
    row.open = true;
    return row;
  }
  if (nodes_.empty() || budget_in_numbers(config)) return row_pages(config, chooses_, pages);
  const SourceContext context{.environment = environment};
  std::vector<double> values(nodes_.size());
  Tensor number{{}, {0.0}};
  for (std::size_t id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    if (node.op->of_sequence) {
      node.op->source(context, node, number);
      values[id] = number.data[0];
      continue;
    }
    double operands[3] = {};
    for (std::size_t i = 0; i < node.inputs.size(); ++i) operands[i] = values[static_cast<std::size_t>(node.inputs[i])];
    values[id] = node.op->scalar(std::span(operands).first(node.inputs.size()), node.attributes);
  }
  const double wanted = std::floor(values.back());
  // Bounded before it becomes a whole number; NaN is bounded to 0.
  return row_pages(config, chooses_, pages,
                   wanted > 0 ? static_cast<std::int64_t>(std::min(wanted, static_cast<double>(pages))) : 0);
}

}  // namespace vortex::ir
