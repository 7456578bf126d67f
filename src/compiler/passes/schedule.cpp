#include "compiler/passes/schedule.h"

#include <algorithm>

#include "base/check.h"
#include "ir/op.h"

namespace vortex::compiler {

using ir::Node;
using ir::Program;
using ir::ValueId;

std::int64_t elements_of(const ir::Type& type, const ir::Geometry& geometry) {
  std::int64_t count = 1;
  for (const ir::Axis& axis : type.axes) count *= ir::bind(axis.extent, geometry).value_or(1);
  return count;
}

ValueId source_of(const Program& program, ValueId id) {
  while (program.node(id).op->name == "confine") id = program.node(id).inputs[0];
  return id;
}

bool is_read_again(const Program& program, ValueId id) {
  return program.node(id).type.domain.has_instances() &&
         program.node(source_of(program, id)).op->kind == ir::OpKind::source;
}

namespace {

class Scheduler {
 public:
  Scheduler(const Program& program, const ir::Geometry& geometry)
      : program_(program),
        geometry_(geometry),
        level_(program.nodes.size(), 0),
        in_finish_(program.nodes.size(), false),
        ranked_(program.selection >= 0 ? program.selection : program.score) {}

  std::vector<Stage> run() {
    std::vector<Stage> stages;
    std::vector<std::int64_t> sizes;  // pages of what is summarized
    for (const ir::Summary& summary : program_.summaries) sizes.push_back(node(summary.value).type.domain.pages);
    std::sort(sizes.begin(), sizes.end());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    for (std::int64_t pages : sizes) stages.push_back(summarize_stage(pages));
    if (!program_.chooses()) return stages;
    std::vector<ValueId> roots{ranked_};
    for (ValueId root : {program_.rest_logit, program_.rest_value})
      if (root >= 0) roots.push_back(root);
    for (const ir::State& state : program_.states) roots.push_back(state.value);
    needed_ = reachable(roots);
    find_levels();
    int last = 0;
    for (ValueId root : roots) last = std::max(last, level(root));
    stages.push_back(collect(StageKind::row, [&](ValueId id) { return !is_page(id) && level(id) == 0; }));
    for (int k = 0; k <= last; ++k) {
      for (const ir::Domain& domain : domains_at(k, k == last)) {
        stages.push_back(collect(StageKind::page, [&](ValueId id) {
          return is_page(id) && node(id).type.domain == domain && level(id) == k && !in_finish(id);
        }));
        stages.back().domain = domain;
      }
      if (k < last)
        stages.push_back(collect(StageKind::finish,
                                 [&](ValueId id) { return level(id) == k + 1 && (!is_page(id) || in_finish(id)); }));
    }
    connect(stages);
    return stages;
  }

 private:
  const Node& node(ValueId id) const { return program_.node(id); }
  bool is_page(ValueId id) const { return node(id).type.domain.has_instances(); }
  bool is_source(ValueId id) const { return node(id).op->kind == ir::OpKind::source; }
  int level(ValueId id) const { return level_[static_cast<std::size_t>(id)]; }
  bool in_finish(ValueId id) const { return in_finish_[static_cast<std::size_t>(id)]; }
  bool over_page(ValueId id) const { return ir::axis_of(node(id)) == "page"; }

  std::vector<bool> reachable(std::vector<ValueId> roots) const {
    std::vector<bool> seen(program_.nodes.size(), false);
    for (ValueId root : roots) seen[static_cast<std::size_t>(root)] = true;
    for (std::size_t id = seen.size(); id-- > 0;)
      if (seen[id])
        for (ValueId input : program_.nodes[id].inputs) seen[static_cast<std::size_t>(input)] = true;
    return seen;
  }

  // What the page stages of a level run over: groups and sets, then the candidates, where the last stage hands out what
  // it ranked.
  std::vector<ir::Domain> domains_at(int at, bool last) const {
    const ir::Domain candidates{ir::Domain::Kind::page};
    std::vector<ir::Domain> out;
    bool pages = last;
    for (std::size_t i = 0; i < program_.nodes.size(); ++i) {
      const ValueId id = static_cast<ValueId>(i);
      if (!needed_[i] || !is_page(id) || is_read_again(program_, id) || level(id) != at || in_finish(id)) continue;
      const ir::Domain& domain = node(id).type.domain;
      if (domain == candidates) {
        pages = true;
      } else if (std::find(out.begin(), out.end(), domain) == out.end()) {
        out.push_back(domain);
      }
    }
    if (pages || out.empty()) out.push_back(candidates);
    return out;
  }

  Stage summarize_stage(std::int64_t pages) const {
    Stage stage{StageKind::summarize, {}, {}, {}, ir::Domain{ir::Domain::Kind::group, pages}.unit()};
    for (const ir::Summary& summary : program_.summaries)
      if (node(summary.value).type.domain.pages == pages) stage.outputs.push_back(summary.value);
    const std::vector<bool> seen = reachable(stage.outputs);
    for (std::size_t id = 0; id < seen.size(); ++id)
      if (seen[id]) stage.nodes.push_back(static_cast<ValueId>(id));
    return stage;
  }

  // The page values of this value's level that it needs and that no page stage has made; false when one of them is
  // heavy.
  bool gather_light(ValueId root, int at, std::vector<ValueId>& found) const {
    std::vector<bool> seen(program_.nodes.size(), false);
    std::vector<ValueId> waiting{root};
    while (!waiting.empty()) {
      const ValueId id = waiting.back();
      waiting.pop_back();
      if (seen[static_cast<std::size_t>(id)] || !is_page(id) || level(id) < at || in_finish(id)) continue;
      seen[static_cast<std::size_t>(id)] = true;
      if (node(id).op->name == "summary" || node(id).op->kind == ir::OpKind::domain ||
          elements_of(node(id).type, geometry_) > kLightElements)
        return false;
      found.push_back(id);
      waiting.insert(waiting.end(), node(id).inputs.begin(), node(id).inputs.end());
    }
    return true;
  }

  void find_levels() {
    for (std::size_t i = 0; i < program_.nodes.size(); ++i) {
      if (!needed_[i]) continue;
      const ValueId id = static_cast<ValueId>(i);
      int& level_here = level_[i];
      for (ValueId input : node(id).inputs) level_here = std::max(level_here, level(input));
      if (node(id).op->kind == ir::OpKind::domain && !is_read_again(program_, id)) {
        const ValueId from = node(id).inputs[0];  // lies ready for all of its domain
        if (!is_read_again(program_, from) && !in_finish(from)) level_here = std::max(level_here, level(from) + 1);
      }
      if (!over_page(id)) continue;
      // Every page value that it waits for is made in the finish with it, or lies ready.
      std::vector<ValueId> light;
      bool fits = level_here > 0;
      for (ValueId input : node(id).inputs)
        if (is_page(input) && level(input) > 0)
          fits = fits && level(input) == level_here && gather_light(input, level_here, light);
      if (fits) {
        for (ValueId value : light) in_finish_[static_cast<std::size_t>(value)] = true;
      } else {
        ++level_here;
      }
      in_finish_[i] = true;
    }
  }

  template <class Belongs>
  Stage collect(StageKind kind, const Belongs& belongs) const {
    Stage stage{kind, {}, {}, {}};
    for (std::size_t i = 0; i < program_.nodes.size(); ++i) {
      const ValueId id = static_cast<ValueId>(i);
      if (needed_[i] && !is_read_again(program_, id) && belongs(id)) stage.nodes.push_back(id);
    }
    return stage;
  }

  // Page sources go to every stage that reads them; the rest crosses as inputs and outputs.
  void connect(std::vector<Stage>& stages) const {
    for (Stage& stage : stages) {
      if (stage.kind == StageKind::summarize) continue;
      auto has = [](const std::vector<ValueId>& list, ValueId id) {
        return std::find(list.begin(), list.end(), id) != list.end();
      };
      std::vector<ValueId> sources;
      for (ValueId id : stage.nodes) {
        for (ValueId input : node(id).inputs) {
          if (is_read_again(program_, input)) {
            if (!has(sources, input)) sources.push_back(input);
            if (node(input).op->kind != ir::OpKind::domain) continue;
            const ValueId list = node(input).inputs[1];  // what the stage runs over
            if (!has(stage.nodes, list) && !has(stage.inputs, list)) stage.inputs.push_back(list);
          } else if (!has(stage.nodes, input) && !has(stage.inputs, input)) {
            stage.inputs.push_back(input);
          }
        }
      }
      const bool last = &stage == &stages.back();
      if (last && is_source(ranked_)) sources.push_back(ranked_);
      stage.nodes.insert(stage.nodes.begin(), sources.begin(), sources.end());
      if (last && !has(stage.nodes, ranked_)) stage.inputs.push_back(ranked_);
      if (last) stage.outputs.push_back(ranked_);
      for (ValueId input : stage.inputs)
        for (Stage& earlier : stages)
          if (earlier.kind != StageKind::summarize && &earlier != &stage && has(earlier.nodes, input) &&
              !has(earlier.outputs, input))
            earlier.outputs.push_back(input);
      std::sort(stage.inputs.begin(), stage.inputs.end());
    }
    for (Stage& stage : stages)
      if (stage.kind != StageKind::summarize) std::sort(stage.outputs.begin(), stage.outputs.end());
  }

  const Program& program_;
  const ir::Geometry& geometry_;
  std::vector<int> level_;       // of needed nodes: the finishes that must have ended before
  std::vector<bool> in_finish_;  // computed in the finish before its level, not in the page stage of its level
  std::vector<bool> needed_;
  ValueId ranked_;  // what the last page stage hands out: the set, or the score
};

}  // namespace

std::vector<Stage> schedule(const Program& program, const ir::Geometry& geometry) {
  return Scheduler(program, geometry).run();
}

}  // namespace vortex::compiler
