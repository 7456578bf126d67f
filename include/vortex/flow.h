// The flow language in C++. A Flow is traced by calling ordinary code on Values; the result is a program of the IR.
//
//   vortex::flow::Flow quest("Quest");
//   quest.set("budget", "32");
//   auto k = quest.k();
//   quest.summarize("lo", k.min("token"));
//   quest.summarize("hi", k.max("token"));
//   auto bound = maximum(quest.q() * quest.summary("lo"), quest.q() * quest.summary("hi")).sum("dim");
//   quest.score(bound.softmax("page").sum("head"));
//   std::cout << quest.text();
//
// Values are cheap handles. Axes have names; values broadcast and contract by name. Every op of the table can be
// applied by its name; the common ones have functions. Errors are vortex::UserError with file and line where given. A
// Value of one flow cannot meet a Value of another.
#pragma once

#include <vortex/export.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace vortex::ir {
struct Program;
}

namespace vortex::flow {

using Setting = std::variant<std::int64_t, double, std::string>;
using Settings = std::map<std::string, Setting>;

struct Where {
  std::string file;
  int line = 0;
};

class Flow;

class VORTEX_API Value {
 public:
  Value(double number) : number_(number) {}  // becomes a constant of the flow it meets
  Value(int number) : number_(number) {}

  Value sum(const std::string& axis) const { return apply("sum", axis); }
  Value mean(const std::string& axis) const { return apply("mean", axis); }
  Value min(const std::string& axis) const { return apply("min", axis); }
  Value max(const std::string& axis) const { return apply("max", axis); }
  Value norm(const std::string& axis) const { return apply("norm", axis); }
  Value logsumexp(const std::string& axis) const { return apply("logsumexp", axis); }
  Value softmax(const std::string& axis) const { return apply("softmax", axis); }
  Value normalize(const std::string& axis) const { return apply("normalize", axis); }
  Value cumsum(const std::string& axis) const { return apply("cumsum", axis); }

  // Of a state, as Flow::page_keep and Flow::seq_keep give it: what it is in the next step. Once.
  void set(const Value& next, const Where& = {}) const;

  std::string type() const;  // "f32[head, dim] @row"
  int id() const { return id_; }

 private:
  friend class Flow;
  friend Value apply(const std::string&, const std::vector<Value>&, const Settings&, const Where&);
  Value(std::shared_ptr<ir::Program> program, int id) : program_(std::move(program)), id_(id) {}
  Value apply(const char* op, const std::string& axis) const;

  std::shared_ptr<ir::Program> program_;  // null: a number
  int id_ = -1;
  double number_ = 0;
};

// Any op of the table by its name. At least one operand must not be a plain number.
VORTEX_API Value apply(const std::string& op, const std::vector<Value>& operands, const Settings& = {},
                       const Where& = {});

inline Value operator+(const Value& a, const Value& b) { return apply("add", {a, b}); }
inline Value operator-(const Value& a, const Value& b) { return apply("sub", {a, b}); }
inline Value operator*(const Value& a, const Value& b) { return apply("mul", {a, b}); }
inline Value operator/(const Value& a, const Value& b) { return apply("div", {a, b}); }
inline Value operator-(const Value& a) { return apply("neg", {a}); }
inline Value operator<(const Value& a, const Value& b) { return apply("less", {a, b}); }
inline Value operator<=(const Value& a, const Value& b) { return apply("less_equal", {a, b}); }
inline Value operator>(const Value& a, const Value& b) { return apply("greater", {a, b}); }
inline Value operator>=(const Value& a, const Value& b) { return apply("greater_equal", {a, b}); }
inline Value maximum(const Value& a, const Value& b) { return apply("maximum", {a, b}); }
inline Value minimum(const Value& a, const Value& b) { return apply("minimum", {a, b}); }
inline Value where(const Value& condition, const Value& a, const Value& b) { return apply("where", {condition, a, b}); }
inline Value exp(const Value& a) { return apply("exp", {a}); }
inline Value log(const Value& a) { return apply("log", {a}); }
inline Value sqrt(const Value& a) { return apply("sqrt", {a}); }
inline Value abs(const Value& a) { return apply("abs", {a}); }
inline Value relu(const Value& a) { return apply("relu", {a}); }
inline Value random(const Value& a, const Value& b) { return apply("random", {a, b}); }
inline Value floor(const Value& a) { return apply("floor", {a}); }
// Sets of pages, for select.
inline Value top_k(const Value& a, const Value& k) { return apply("top_k", {a, k}); }
inline Value top_p(const Value& a, const Value& share) { return apply("top_p", {a, share}); }
inline Value threshold(const Value& a, const Value& least) { return apply("threshold", {a, least}); }
inline Value operator|(const Value& a, const Value& b) { return apply("either", {a, b}); }
inline Value operator&(const Value& a, const Value& b) { return apply("both", {a, b}); }
inline Value dot(const Value& a, const Value& b, const std::string& over) {
  return apply("dot", {a, b}, {{"over", over}});
}

class VORTEX_API Flow {
 public:
  explicit Flow(std::string name, std::string doc = "");

  // One setting from text, as `vortex ... --set budget=32` gives it.
  void set(const std::string& name, const std::string& value);

  // An op without operands: "q", "page_k", "page_index", "seq_tokens", "layer_index".
  Value source(const std::string& op, const Settings& = {}, const Where& = {});
  Value k(const Where& where = {}) { return source("page_k", {}, where); }
  Value v(const Where& where = {}) { return source("page_v", {}, where); }
  Value q(const Where& where = {}) { return source("q", {}, where); }
  Value constant(double number, const Where& where = {}) { return source("constant", {{"value", number}}, where); }

  // Declares what is remembered of a page, and reads it while scoring.
  void summarize(const std::string& name, const Value& value, const Where& = {});
  Value summary(const std::string& name, const Where& where = {}) { return source("summary", {{"name", name}}, where); }
  // State: what the step before set of each page, or of the sequence; `initial` at first. axes: "head, sub=4". Say what
  // it is in the next step with its set(value).
  Value page_keep(const std::string& name, double initial, const std::string& axes = "", const Where& where = {}) {
    return source("page_state", {{"name", name}, {"initial", initial}, {"axes", axes}}, where);
  }
  Value seq_keep(const std::string& name, double initial, const std::string& axes = "", const Where& where = {}) {
    return source("seq_state", {{"name", name}, {"initial", initial}, {"axes", axes}}, where);
  }
  // A learned tensor of the flow's weights, "dim, low=16" its axes; weights() names the safetensors file beside the
  // flow.
  Value param(const std::string& name, const std::string& axes = "", const Where& where = {}) {
    return source("param", {{"name", name}, {"axes", axes}}, where);
  }
  void weights(const std::string& file);
  // One number a page; the best pages are attended.
  void score(const Value& value);
  // In place of a score: the set of candidates that are attended.
  void select(const Value& set);
  // What a page that is not chosen contributes: as one token of this logit [head] and this value [dim].
  void rest(const Value& logit, const Value& value);
  // Another flow for some layers: "0,1,5" or "0-3". It has one page size with this one.
  void layers(const std::string& layers, const Flow& other);
  // How many pages a row attends in all, made from source("seq_pages") and the like. A budget in the settings comes
  // first.
  void budget(const Value& value);
  // The same as the body of a CUDA C++ function: "return max(topk_val, int(cached_block_len * 0.1f));". `numbers` are
  // in scope beside cached_block_len; whole ones (std::int64_t) are int there.
  void budget(const std::string& snippet, const Settings& numbers, const Where& = {});

  // The value with this number, as Value::id gives it.
  Value value(int id) const;
  // The verified program. The Flow stays as it is.
  const ir::Program& finish() const;
  const ir::Program& program() const { return *program_; }  // as far as it has been traced
  // The verified program as text or JSON, as other processes and vortex_attention.parse_flow read it, and the hash of
  // its canonical form: equal for flows that mean the same.
  std::string text() const;
  std::string json() const;
  std::string hash() const;

 private:
  std::shared_ptr<ir::Program> program_;
};

}  // namespace vortex::flow
