// Plan → tile programs: the stages, and what crosses between them.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "codegen/cpu/lower_nodes.h"

namespace vortex::codegen {

namespace {

using compiler::Plan;
using compiler::Stage;
using compiler::StageKind;
using ir::OpKind;
using ir::ValueId;

class Lowering final : private Nodes {
 public:
  explicit Lowering(const Plan& plan) : Nodes(plan) {
    for (const ir::Summary& summary : plan.program.summaries)
      out_.fields.push_back({summary.name, elements(summary.value), plan.program.config.summary_dtype,
                             node(summary.value).type.domain.pages});
    for (const ir::State& state : plan.program.states) {
      const ir::Node& reader = *ir::reader_of(plan.program, state.name);
      out_.states.push_back({state.name, compiler::elements_of(reader.type, plan.geometry),
                             reader.type.domain.kind == ir::Domain::Kind::page,
                             static_cast<float>(ir::number_of(reader.attributes, "initial"))});
    }
    for (const ir::Node* parameter : ir::parameters_of(plan.program)) {
      const auto id = static_cast<ValueId>(parameter - plan.program.nodes.data());
      out_.parameters.push_back({ir::text_of(parameter->attributes, "name"), elements(id), {}});
      out_.parameters.back().table = offsets(shape(id), parameter_strides(id));
    }
    out_.domains.push_back({});
  }

  TileProgram run() {
    for (const Stage& stage : plan_.stages) {
      switch (stage.kind) {
        case StageKind::summarize:
          lower_summarize(stage);
          break;
        case StageKind::row:
          lower_row(stage);
          break;
        case StageKind::page:
          lower_page(stage, &stage == &plan_.stages.back());
          break;
        case StageKind::finish:
          lower_finish(stage);
          break;
      }
    }
    keep_rest();
    for (std::unique_ptr<std::vector<Sweep>>& sweeps : finish_) out_.finish.push_back(std::move(*sweeps));
    out_.row_floats += tile::kPadding;
    while (out_.chunk > kLeastChunk && chunk_elements_ * out_.chunk > kScratchFloats) out_.chunk /= 2;
    out_.scratch_floats = std::max(page_elements_, chunk_elements_ * out_.chunk) + tile::kPadding;
    return std::move(out_);
  }

 private:
  void begin(Instructions& code, bool row_mode) {
    code_ = &code;
    row_mode_ = row_mode;
    buffers_.clear();
    local_.clear();
    gathered_.clear();
  }

  void lower_summarize(const Stage& stage) {
    summarizing_ = true;
    out_.summarize.emplace_back(stage.domain.pages, Instructions{});
    Instructions& code = out_.summarize.back().second;
    begin(code, true);
    for (ValueId id : stage.nodes) emit(id);
    for (std::size_t f = 0; f < plan_.program.summaries.size(); ++f) {
      const ValueId id = plan_.program.summaries[f].value;
      if (node(id).type.domain != stage.domain) continue;
      const Value value = memory_of(id);
      const int narrowed = static_cast<int>(buffers_.size());
      buffers_.push_back(elements(id));
      Instruction& store = add(Opcode::store_field, id);
      store.field = static_cast<int>(f);
      store.a = operand_of(value);
      store.table = table_of(id, value.stride);
      store.out = {Space::scratch, 0, {}, 0, narrowed};
    }
    place_buffers(code);
    summarizing_ = false;
  }

  void lower_row(const Stage& stage) {
    begin(out_.row, true);
    for (const Stage& other : plan_.stages)
      if (other.kind == StageKind::page && other.domain.pages > 1 && other.domain.set < 0) domain_of(other.domain);
    for (const ir::Node& at : plan_.program.nodes)
      if (at.op->kind == OpKind::list && at.type.domain.pages > 1) domain_of(at.type.domain.unit());
    for (std::size_t d = 1; d < out_.domains.size(); ++d) add(Opcode::group_homes, -1).domain = static_cast<int>(d);
    for (ValueId id : stage.nodes) {
      emit(id);
      store_states(id);
    }
    keep_rows(stage, out_.row);
  }

  // Row values stay where they are for all later stages.
  void keep_rows(const Stage& stage, Instructions& made) {
    for (ValueId id : stage.nodes) {
      if (is_page(id)) continue;
      kept_[id] = local_.at(id);
      made_in_[id] = &made;
    }
  }

  // A page value goes to the spill space, where later stages and sweeps find it: straight from the instruction that
  // makes it, when that was the last one.
  void spill(ValueId id) {
    const Value value = memory_of(id);
    const Value kept = place_spilled(id);
    const Instruction* last = code_->empty() ? nullptr : &code_->back();
    bool made_last = last && last->value == id && last->out.space == Space::scratch &&
                     last->out.buffer == value.buffer && value.offset == 0 && value.stride == kept.stride;
    for (const auto& [other, view] : local_)
      if (other != id && view.space == Space::scratch && view.buffer == value.buffer) made_last = false;
    if (made_last) {
      Operand& out = code_->back().out;
      out.space = Space::spill;
      out.offset = kept.offset;
      out.buffer = -1;
      local_[id] = kept;
    } else {
      Instruction& copy = add(Opcode::copy, id);
      copy.a = operand_of(value);
      copy.table = table_of(id, value.stride);
      copy.out = operand_of(kept);
    }
    kept_[id] = kept;
  }

  void lower_page(const Stage& stage, bool last) {
    // Stages of one level follow each other with nothing between.
    if (finish_.size() < out_.page.size()) finish_.push_back(std::make_unique<std::vector<Sweep>>(1));
    Instructions code;
    begin(code, false);
    domain_ = domain_of(stage.domain);
    for (ValueId id : stage.nodes)
      if (!is_read_again(id)) emit(id);
    if (!last)
      for (ValueId id : stage.outputs)
        if (is_page(id)) spill(id);
    for (ValueId id : stage.nodes) store_states(id);
    if (last) {
      // The score ends in a buffer of its own, from which each chunk is handed out.
      const ValueId ranked = plan_.program.selection >= 0 ? plan_.program.selection : plan_.program.score;
      const Operand score = operand_of(memory_of(ranked));
      Instruction& copy = add(Opcode::copy, ranked);
      copy.a = score;
      copy.table = {0};
      copy.out = {Space::scratch, 0, {}, 1, static_cast<int>(buffers_.size())};
      buffers_.push_back(1);
    }
    place_buffers(code);
    if (last) out_.score = code.back().out;
    out_.page.push_back({domain_, std::move(code)});
  }

  // A finish is row work and sweeps in turn: a fold of sweep s is a row value from sweep s + 1 on.
  void lower_finish(const Stage& stage) {
    std::map<ValueId, int>
        sweep;  // of page nodes: the sweep that makes them; of row nodes: the first that may read them
    int last = 0;
    auto has = [](const std::vector<ValueId>& list, ValueId id) {
      return std::find(list.begin(), list.end(), id) != list.end();
    };
    for (ValueId id : stage.nodes) {
      int at = 0;
      for (ValueId input : node(id).inputs)
        if (auto found = sweep.find(input); found != sweep.end()) at = std::max(at, found->second);
      if (ir::axis_of(node(id)) == "page" && (!is_page(id) || is_choice(id))) ++at;
      sweep[id] = at;
      last = std::max(last, at);
    }
    // At stable addresses until all is lowered: packing appends to row lists later.
    finish_.push_back(std::make_unique<std::vector<Sweep>>(static_cast<std::size_t>(last) + 1));
    std::vector<Sweep>& sweeps = *finish_.back();
    begin(sweeps[0].rows, true);
    for (int s = 0; s <= last; ++s) {
      Sweep& here = sweeps[static_cast<std::size_t>(s)];
      code_ = &here.rows;
      row_mode_ = true;
      for (ValueId id : stage.nodes) {
        if (sweep[id] != s) continue;
        if (is_choice(id)) emit_choice(id);
        if (is_list(id)) {
          emit_members(id);
          continue;
        }
        if (is_page(id)) continue;
        if (ir::axis_of(node(id)) == "page") {
          emit_fold_end(id);
        } else {
          emit(id);
        }
        kept_[id] = local_.at(id);
        made_in_[id] = &here.rows;
        store_states(id);
      }
      Instructions begins;
      Instructions* rows = code_;
      row_mode_ = false;
      for (const ir::Domain& domain : domains_of(stage, sweep, s)) {
        here.lanes.push_back({domain_of(domain), {}});
        code_ = &here.lanes.back().code;
        domain_ = here.lanes.back().domain;
        // Lanes of the sweep before are gone: what is read again was spilled, sources are made again.
        std::erase_if(local_, [&](const auto& entry) { return is_page(entry.first); });
        gathered_.clear();
        buffers_.clear();
        for (ValueId id : stage.nodes) {
          if (is_choice(id) || is_list(id) || lanes_of(id) != domain) continue;
          const bool over_page = ir::axis_of(node(id)) == "page";
          if (is_page(id) && sweep[id] == s && !is_read_again(id)) {
            if (over_page) {
              emit_scan(id, begins);
              store_states(id);
              continue;
            }
            emit(id);
            bool read_later = has(stage.outputs, id);
            for (ValueId other : stage.nodes) {
              if (!has(node(other).inputs, id)) continue;
              // Σ a·b over "page" is folded in the sweep of the later of the two.
              const bool folds = !is_page(other) && !is_list(other) && ir::axis_of(node(other)) == "page";
              if ((is_page(other) || is_list(other) || folds) && sweep[other] > s + (folds ? 1 : 0)) read_later = true;
            }
            if (read_later) spill(id);
            store_states(id);
          } else if (!is_page(id) && over_page && sweep[id] == s + 1) {
            node(id).op->kind == OpKind::contraction ? emit_product(id, begins) : emit_fold(id, begins);
          }
        }
        place_buffers(*code_);
      }
      rows->insert(rows->end(), begins.begin(), begins.end());
    }
  }

  static std::optional<std::pair<tile::Fold, Finish>> fold_of(const std::string& name) {
    if (name == "sum") return std::make_pair(tile::Fold::sum, Finish::as_is);
    if (name == "mean") return std::make_pair(tile::Fold::sum, Finish::mean);
    if (name == "max") return std::make_pair(tile::Fold::max, Finish::as_is);
    if (name == "min") return std::make_pair(tile::Fold::min, Finish::as_is);
    if (name == "norm") return std::make_pair(tile::Fold::sum_of_squares, Finish::root);
    return std::nullopt;
  }

  // What the work of a node in a finish runs over: its own instances, or those it folds.
  ir::Domain lanes_of(ValueId id) const {
    if (is_page(id)) return node(id).type.domain;
    for (ValueId input : node(id).inputs)
      if (is_page(input)) return node(input).type.domain;
    return {ir::Domain::Kind::row};
  }

  // Of all that a sweep works on, in the order of the nodes.
  std::vector<ir::Domain> domains_of(const Stage& stage, std::map<ValueId, int>& sweep, int s) const {
    std::vector<ir::Domain> out;
    for (ValueId id : stage.nodes) {
      if (is_choice(id) || is_list(id) || is_read_again(id) || sweep[id] != (is_page(id) ? s : s + 1)) continue;
      if (!is_page(id) && ir::axis_of(node(id)) != "page") continue;
      const ir::Domain domain = lanes_of(id);
      if (std::find(out.begin(), out.end(), domain) == out.end()) out.push_back(domain);
    }
    return out;
  }

  bool is_list(ValueId id) const { return node(id).op->kind == OpKind::list; }

  // The members of a set, as the domain of later stages.
  void emit_members(ValueId id) {
    const ir::Domain unit = node(id).type.domain.unit();
    sets_[id] = static_cast<int>(out_.domains.size());
    out_.domains.push_back({unit.pages, domain_of(unit), out_.spill_elements, take_rows(1)});
    out_.spill_elements += 2;
    Instruction& list = add(Opcode::members, id);
    list.a = operand_of(kept_.at(node(id).inputs[0]));
    list.domain = sets_.at(id);
  }

  bool is_choice(ValueId id) const { return node(id).op->kind == OpKind::selection; }

  // A set is made at once from all candidates, whose numbers lie in the spill space.
  void emit_choice(ValueId id) {
    const std::optional<tile::Choice> op = tile::find_choice(node(id).op->tile);
    if (!op) refuse(id, ir::print(node(id).type));
    const Operand amount = operand_of(memory_of(node(id).inputs[1]));
    const Value kept = place_spilled(id);
    const ir::Domain& from = node(node(id).inputs[0]).type.domain;
    const Operand inside = from.set >= 0 ? operand_of(place_spilled(id)) : Operand{};
    Instruction& choose = add(Opcode::choose, id);
    choose.domain = domain_of(from);
    choose.c = inside;
    choose.op = static_cast<std::uint8_t>(*op);
    choose.a = operand_of(kept_.at(node(id).inputs[0]));
    choose.b = amount;
    choose.out = operand_of(kept);
    kept_[id] = kept;
  }

  // The rest of a row, side by side for the caller.
  void keep_rest() {
    if (plan_.program.rest_logit < 0) return;
    code_ = &finish_.back()->back().rows;
    const ValueId logit = plan_.program.rest_logit, value = plan_.program.rest_value;
    out_.rest = {Space::rows, take_rows(elements(logit) + elements(value)), {}, 0, -1};
    std::int64_t offset = out_.rest.offset;
    for (ValueId id : {logit, value}) {
      Instruction& copy = add(Opcode::copy, id);
      copy.a = operand_of(kept_.at(id));
      copy.table = table_of(id, kept_.at(id).stride);
      copy.out = {Space::rows, offset, {}, 0, -1};
      offset += elements(id);
    }
  }

  // Σ a·b over the candidates: a fold of products.
  void emit_product(ValueId id, Instructions& begins) {
    const std::vector<ir::Axis>& axes = node(id).type.axes;
    const Operand state{Space::rows, take_rows(elements(id) * tile::kLanes), {}, 0, -1};
    Instruction start;
    start.code = Opcode::fold_begin;
    start.value = id;
    start.op = static_cast<std::uint8_t>(tile::Fold::sum);
    start.extent = elements(id);
    start.out = state;
    begins.push_back(start);
    const ValueId a = node(id).inputs[0], b = node(id).inputs[1];
    const Value left = memory_of(a), right = memory_of(b);
    const std::vector<std::int32_t> left_table = offsets(shape(id), strides_over(a, left.stride, axes)),
                                    right_table = offsets(shape(id), strides_over(b, right.stride, axes));
    Instruction& fold = add(Opcode::fold_product, id);
    fold.a = operand_of(left);
    fold.b = operand_of(right);
    for (std::size_t i = 0; i < left_table.size(); ++i) {
      fold.table.push_back(left_table[i]);
      fold.table.push_back(right_table[i]);
    }
    fold.out = state;
    states_[id] = state;
  }

  void emit_fold(ValueId id, Instructions& begins) {
    const auto op = fold_of(node(id).op->tile);
    if (!op) refuse(id, ir::print(node(id).type));
    const ValueId input = node(id).inputs[0];
    const Value from = memory_of(input);
    const Operand state{Space::rows, take_rows(elements(id) * tile::kLanes), {}, 0, -1};
    Instruction start;
    start.code = Opcode::fold_begin;
    start.value = id;
    start.op = static_cast<std::uint8_t>(op->first);
    start.extent = elements(id);
    start.out = state;
    begins.push_back(start);
    Instruction& fold = add(Opcode::fold, id);
    fold.op = start.op;
    fold.a = operand_of(from);
    fold.table = table_of(input, from.stride);
    fold.out = state;
    states_[id] = state;
  }

  void emit_fold_end(ValueId id) {
    const auto op = node(id).op->kind == OpKind::contraction ? std::make_pair(tile::Fold::sum, Finish::as_is)
                                                             : *fold_of(node(id).op->tile);
    Value value = place(id);
    Instruction& end = add(Opcode::fold_end, id);
    end.op = static_cast<std::uint8_t>(op.first);
    end.finish = op.second;
    end.extent = elements(id);
    end.a = states_.at(id);
    end.out = operand_of(value);
    end.domain = domain_of(lanes_of(id));
    local_[id] = value;
  }

  // cumsum along "page": chunks follow each other, the running sums wait in the rows.
  void emit_scan(ValueId id, Instructions& begins) {
    if (node(id).op->tile != "cumsum") refuse(id, ir::print(node(id).type));
    const ValueId input = node(id).inputs[0];
    const Value from = memory_of(input);
    const Operand state{Space::rows, take_rows(elements(id) * tile::kLanes), {}, 0, -1};
    Instruction start;
    start.code = Opcode::scan_begin;
    start.value = id;
    start.extent = elements(id);
    start.out = state;
    begins.push_back(start);
    const Value kept = place_spilled(id);
    Instruction& scan = add(Opcode::scan, id);
    scan.a = operand_of(from);
    scan.b = state;
    scan.table = table_of(input, from.stride);
    scan.out = operand_of(kept);
    kept_[id] = kept;
    local_[id] = kept;
  }

  std::map<ValueId, Operand> states_;  // of folds
  std::vector<std::unique_ptr<std::vector<Sweep>>> finish_;
};

}  // namespace

TileProgram lower(const compiler::Plan& plan) { return Lowering(plan).run(); }

}  // namespace vortex::codegen
