#include "compiler/passes/contract.h"

#include <algorithm>
#include <map>
#include <optional>

#include "compiler/rewrite.h"

namespace vortex::compiler {

using ir::Node;
using ir::ValueId;

namespace {

constexpr std::size_t kMaxTerms = 8, kMaxFactors = 16;  // of a sum, of a product
constexpr int kMaxDepth = 32;                           // ops between a sum and its terms

// coefficient · Π factors
struct Term {
  double coefficient = 1.0;
  std::vector<ValueId> factors;
};
using Terms = std::vector<Term>;

class Contractor {
 public:
  Contractor(Rewriter& rewriter, std::string axis) : rewriter_(rewriter), axis_(std::move(axis)) {}

  // Σ over the axis of the product of `values`, times `coefficient`; -1 when it is better left alone.
  ValueId sum_of(const std::vector<ValueId>& values, double coefficient) {
    Terms terms{{coefficient, {}}};
    for (ValueId value : values) terms = multiply(terms, terms_of(value));
    if (terms.size() > kMaxTerms) return -1;
    std::vector<Part> parts;
    for (const Term& term : terms) {
      Part part = part_of(term);
      if (part.row.empty() && terms.size() > 1) return -1;
      add(parts, std::move(part));
    }
    if (parts.size() == 1 && parts[0].rows.size() == 1 && parts[0].row.empty() && parts[0].page.size() < 2) return -1;
    ValueId total = -1;
    for (const Part& part : parts) {
      const bool subtract = total >= 0 && std::all_of(part.rows.begin(), part.rows.end(),
                                                      [](const Term& row) { return row.coefficient < 0; });
      ValueId value = build(part, subtract ? -1.0 : 1.0);
      total = total < 0 ? value : rewriter_.make(subtract ? "sub" : "add", {total, value});
    }
    return total;
  }

 private:
  // What one contraction reads: Σ over `rows` of coefficient · Π, contracted with Π page, times Π outside.
  struct Part {
    std::vector<Term> rows;
    std::vector<ValueId> row;      // factors of the first row term, to tell whether there are any
    std::vector<ValueId> page;     // with the axis, different on each page
    std::vector<ValueId> outside;  // without the axis
  };

  bool inside(ValueId id) const { return rewriter_.has_axis(id, axis_); }

  static Terms multiply(const Terms& a, const Terms& b) {
    Terms out;
    for (const Term& x : a) {
      for (const Term& y : b) {
        Term both{x.coefficient * y.coefficient, x.factors};
        both.factors.insert(both.factors.end(), y.factors.begin(), y.factors.end());
        out.push_back(std::move(both));
      }
    }
    return out;
  }

  // The value as a sum of products. Values of the row and values without the axis are taken whole, and so is what is
  // too deep or too large. A value read many times is multiplied out once.
  const Terms& terms_of(ValueId id, int depth = 0) {
    if (auto found = known_.find(id); found != known_.end()) return found->second;
    Terms terms = depth < kMaxDepth ? multiplied_out(id, depth + 1) : Terms{{1.0, {id}}};
    return known_.emplace(id, std::move(terms)).first->second;
  }

  Terms multiplied_out(ValueId id, int depth) {
    const Node& node = rewriter_.node(id);
    const std::string& name = node.op->name;
    if (name == "constant") return {{ir::number_of(node.attributes, "value"), {}}};
    if (!rewriter_.is_page(id) || !inside(id)) return {{1.0, {id}}};
    const std::vector<ValueId> inputs = node.inputs;
    if (name == "neg") return multiply({{-1.0, {}}}, terms_of(inputs[0], depth));
    if (name == "add" || name == "sub") {
      if (!inside(inputs[0]) || !inside(inputs[1])) return {{1.0, {id}}};
      Terms out = terms_of(inputs[0], depth), other = terms_of(inputs[1], depth);
      if (name == "sub") other = multiply({{-1.0, {}}}, other);
      out.insert(out.end(), other.begin(), other.end());
      if (out.size() <= kMaxTerms) return out;
    }
    if (name == "mul") {
      const Terms &a = terms_of(inputs[0], depth), &b = terms_of(inputs[1], depth);
      // A product of two sums is not multiplied out: that would trade a square for differences of large numbers.
      if (std::min(a.size(), b.size()) == 1 && a.size() * b.size() <= kMaxTerms &&
          factors(a) + factors(b) <= kMaxFactors)
        return multiply(a, b);
    }
    if (name == "div" && !inside(inputs[1])) {
      ValueId inverse = rewriter_.make("div", {rewriter_.constant(1.0), inputs[1]});
      return multiply(terms_of(inputs[0], depth), {{1.0, {inverse}}});
    }
    return {{1.0, {id}}};
  }

  static std::size_t factors(const Terms& terms) {
    std::size_t most = 0;
    for (const Term& term : terms) most = std::max(most, term.factors.size());
    return most;
  }

  Part part_of(const Term& term) const {
    Part part;
    std::vector<ValueId> row, row_outside;
    for (ValueId factor : term.factors) {
      if (!inside(factor)) {
        (rewriter_.is_page(factor) ? part.outside : row_outside).push_back(factor);
      } else {
        (rewriter_.is_page(factor) ? part.page : row).push_back(factor);
      }
    }
    // Row factors without the axis join the row side unless they bring axes it does not have.
    for (ValueId factor : row_outside) {
      const bool fits = std::all_of(
          rewriter_.node(factor).type.axes.begin(), rewriter_.node(factor).type.axes.end(), [&](const ir::Axis& axis) {
            return std::any_of(row.begin(), row.end(), [&](ValueId id) { return rewriter_.has_axis(id, axis.name); });
          });
      (fits && !row.empty() ? row : part.outside).push_back(factor);
    }
    std::sort(row.begin(), row.end());
    std::sort(part.page.begin(), part.page.end());
    std::sort(part.outside.begin(), part.outside.end());
    part.row = row;
    part.rows = {{term.coefficient, row}};
    return part;
  }

  // Parts with one page side become one contraction.
  static void add(std::vector<Part>& parts, Part part) {
    for (Part& other : parts) {
      if (other.page == part.page && other.outside == part.outside && !other.row.empty() && !part.row.empty()) {
        other.rows.push_back(part.rows[0]);
        return;
      }
    }
    parts.push_back(std::move(part));
  }

  ValueId scaled(ValueId id, double factor) {
    return factor == 1.0 ? id : rewriter_.make("mul", {id, rewriter_.constant(factor)});
  }

  ValueId build(const Part& part, double sign) {
    ValueId inner = -1;
    if (part.row.empty()) {
      const ir::Attributes axis = {{"axis", axis_}};
      if (part.page.size() < 2) {
        inner = rewriter_.make("sum", {rewriter_.product(part.page)}, axis);
      } else {
        std::vector<ValueId> rest(part.page.begin() + 1, part.page.end());
        inner = rewriter_.make("dot", {part.page[0], rewriter_.product(rest)}, {{"over", axis_}});
      }
      inner = scaled(inner, part.rows[0].coefficient * sign);
    } else {
      ValueId row = -1;
      for (const Term& term : part.rows) {
        ValueId value = scaled(rewriter_.product(term.factors), term.coefficient * sign);
        row = row < 0 ? value : rewriter_.make("add", {row, value});
      }
      inner = part.page.empty() ? rewriter_.make("sum", {row}, {{"axis", axis_}})
                                : rewriter_.make("dot", {row, rewriter_.product(part.page)}, {{"over", axis_}});
    }
    return part.outside.empty() ? inner : rewriter_.make("mul", {inner, rewriter_.product(part.outside)});
  }

  Rewriter& rewriter_;
  std::string axis_;
  std::map<ValueId, Terms> known_;
};

}  // namespace

ir::Program make_contractions(const ir::Program& program, const ir::Geometry& geometry) {
  Rewriter rewriter(program);
  return rewriter.run([&](const Node& node, const std::vector<ValueId>& inputs) -> ValueId {
    const std::string& name = node.op->name;
    if (name != "sum" && name != "mean" && name != "dot") return -1;
    const std::string axis = ir::axis_of(node);
    if (axis == "page" || node.op->phase == ir::Phase::summarize) return -1;
    if (!node.type.domain.has_instances()) return -1;
    double coefficient = 1.0;
    if (name == "mean") {
      std::optional<std::int64_t> size = ir::bind(ir::find_axis(rewriter.node(inputs[0]).type, axis)->extent, geometry);
      coefficient = 1.0 / static_cast<double>(size.value_or(1));
    }
    return Contractor(rewriter, axis).sum_of(inputs, coefficient);
  });
}

}  // namespace vortex::compiler
