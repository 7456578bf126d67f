// Reads and runs a snippet over values of the IR in one pass: variables hold values, an `if` runs both sides and picks,
// a `for` over constants is written out.
#include "ir/snippet.h"

#include <vortex/error.h>

#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "base/text.h"

namespace vortex::ir {

namespace {

constexpr std::size_t kMaxCode = 16 << 10;
constexpr int kMaxDepth = 64, kMaxTurns = 1024;
constexpr std::size_t kMaxWork = 1 << 21;  // statements run, and variables kept beside them: below a second

struct Token {
  enum class Kind : std::uint8_t { name, whole, real, sign, end } kind = Kind::end;
  std::string text;
  std::size_t at = 0;
  double number = 0;
};

// A value while the snippet runs: a node, or a number known now.
struct Value {
  bool whole = true;
  ValueId id = -1;
  double number = 0;

  bool known() const { return id < 0; }
};

// What an `if` must pick from afterwards.
struct State {
  std::map<std::string, Value> variables;
  Value returned, result;  // returned: not zero where a return has been met
  bool always = false;     // on every path

  State() { returned.number = 0; }
};

class Snippet {
 public:
  Snippet(Program& program, const std::string& code, const std::map<std::string, SnippetNumber>& numbers,
          const SourceLocation& location)
      : program_(program), code_(code), numbers_(numbers), location_(location) {}

  ValueId run() {
    if (code_.size() > kMaxCode)
      fail(0, concat("a snippet has at most ", kMaxCode, " bytes"), concat(code_.size(), " bytes"), "shorten it");
    read_tokens();
    while (here().kind != Token::Kind::end) statement();
    if (!state_.always)
      fail(here().at, "every path of a snippet returns a number of pages", "the end of it without return",
           "end it with return ...");
    return node_of(state_.result);
  }

 private:
  [[noreturn]] void fail(std::size_t at, const std::string& required, const std::string& came,
                         const std::string& todo) const {
    std::size_t line = 1, column = 1;
    for (std::size_t i = 0; i < at && i < code_.size(); ++i) {
      ++column;
      if (code_[i] == '\n') {
        ++line;
        column = 1;
      }
    }
    throw UserError(concat(print(location_, program_), ", budget ", line, ":", column), required, came, todo);
  }

  static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
  static bool digit(char c) { return c >= '0' && c <= '9'; }

  void read_tokens() {
    std::size_t at = 0;
    auto starts = [&](std::string_view text) { return std::string_view(code_).substr(at).starts_with(text); };
    while (at < code_.size()) {
      const char c = code_[at];
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at;
      } else if (starts("//")) {
        while (at < code_.size() && code_[at] != '\n') ++at;
      } else if (starts("/*")) {
        const std::size_t end = code_.find("*/", at);
        if (end == std::string::npos) fail(at, "a comment ends with */", "the end of the snippet", "close it");
        at = end + 2;
      } else if (letter(c)) {
        Token token{Token::Kind::name, "", at};
        while (at < code_.size() && (letter(code_[at]) || digit(code_[at]))) token.text += code_[at++];
        tokens_.push_back(token);
      } else if (digit(c) || (c == '.' && at + 1 < code_.size() && digit(code_[at + 1]))) {
        read_number(at);
      } else {
        static const char* const signs[] = {
            "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "+=", "-=", "*=", "/=", "%=", "::", "+",
            "-",  "*",  "/",  "%",  "<",  ">",  "=",  "!",  "?",  ":",  "(",  ")",  "{",  "}",  ";",  ","};
        const char* found = nullptr;
        for (const char* sign : signs)
          if (found == nullptr && starts(sign)) found = sign;
        if (found == nullptr || starts("<<") || starts(">>") || starts("::"))
          fail(at, "a snippet is arithmetic, comparisons, if, for and return",
               concat('"', found != nullptr ? std::string(found) : code_.substr(at, 1), '"'),
               "write it without this sign");
        tokens_.push_back({Token::Kind::sign, found, at});
        at += tokens_.back().text.size();
      }
    }
    tokens_.push_back({Token::Kind::end, "", code_.size()});
  }

  void read_number(std::size_t& at) {
    Token token{Token::Kind::whole, "", at};
    const char* first = code_.data() + at;
    const auto [end, error] = std::from_chars(first, code_.data() + code_.size(), token.number);
    if (error != std::errc{}) fail(at, "a number that can be held", "a larger one", "write a smaller number");
    token.text = std::string(first, end);
    if (token.text.find_first_of(".eE") != std::string::npos) token.kind = Token::Kind::real;
    at += token.text.size();
    while (at < code_.size() && letter(code_[at])) {  // 0.5f, 16u, 16LL
      const char suffix = code_[at];
      if (suffix == 'f' || suffix == 'F')
        token.kind = Token::Kind::real;
      else if (suffix != 'u' && suffix != 'U' && suffix != 'l' && suffix != 'L')
        fail(at, "a number is digits, and f, u or l at its end", concat('"', suffix, '"'), "write a decimal number");
      ++at;
    }
    tokens_.push_back(token);
  }

  const Token& here() const { return tokens_[position_]; }
  bool is(const char* text) const {
    return here().text == text && (here().kind == Token::Kind::sign || here().kind == Token::Kind::name);
  }
  bool accept(const char* text) {
    if (!is(text)) return false;
    ++position_;
    return true;
  }
  std::string spoken() const {
    return here().kind == Token::Kind::end ? "the end of the snippet" : concat('"', here().text.substr(0, 40), '"');
  }
  void expect(const char* text) {
    if (!accept(text)) fail(here().at, concat('"', text, "\" is needed"), spoken(), "check this line");
  }

  // Values.
  Value number(double value, bool whole) const {
    Value out;
    out.whole = whole;
    out.number = value;
    return out;
  }
  ValueId node_of(const Value& value) {
    return value.known() ? append(program_, op_named("constant"), {}, {{"value", value.number}}, location_) : value.id;
  }
  Value apply(const char* name, std::vector<Value> inputs, bool whole) {
    const OpDef& op = op_named(name);
    Value out;
    out.whole = whole;
    bool known = true;
    std::vector<double> numbers;
    for (const Value& input : inputs) {
      known = known && input.known();
      numbers.push_back(input.number);
    }
    if (known) {
      out.number = op.scalar(numbers, {});
      if (std::isnan(out.number))
        fail(here().at, "constants that give a number", "not a number", "do not divide zero by zero");
      return out;
    }
    std::vector<ValueId> ids;
    for (const Value& input : inputs) ids.push_back(node_of(input));
    if (program_.nodes.size() > kMaxNodes)
      fail(here().at, concat("a flow has at most ", kMaxNodes, " values"), "more", "shorten the snippet or its loops");
    out.id = append(program_, op, std::move(ids), {}, location_);
    return out;
  }
  Value pick(const Value& condition, const Value& yes, const Value& no) {
    if (condition.known()) return condition.number != 0 ? yes : no;
    if (yes.known() == no.known() && yes.id == no.id && yes.number == no.number) return yes;
    return apply("where", {condition, yes, no}, yes.whole && no.whole);
  }
  // Towards zero, as C rounds.
  Value whole_of(const Value& value) {
    if (value.whole) return value;
    if (value.known()) return number(std::trunc(value.number), true);
    const Value zero = number(0, true), down = apply("floor", {value}, true);
    const Value up = apply("neg", {apply("floor", {apply("neg", {value}, true)}, true)}, true);
    return pick(apply("less", {value, zero}, true), up, down);
  }
  Value truth_of(const Value& value) { return apply("sub", {number(1, true), is_zero(value)}, true); }
  Value is_zero(const Value& value) { return apply("equal", {value, number(0, true)}, true); }

  // Expressions, by precedence.
  Value expression() {
    if (++depth_ > kMaxDepth)
      fail(here().at, concat("expressions nest at most ", kMaxDepth, " deep"), "deeper", "use variables");
    Value out = binary(0);
    if (accept("?")) {
      const Value yes = expression();
      expect(":");
      const Value no = expression();
      out = pick(out, yes, no);
    }
    --depth_;
    return out;
  }

  Value binary(std::size_t level) {
    static const std::vector<std::vector<const char*>> levels = {
        {"||"}, {"&&"}, {"==", "!="}, {"<", "<=", ">", ">="}, {"+", "-"}, {"*", "/", "%"}};
    if (level == levels.size()) return unary();
    Value left = binary(level + 1);
    while (true) {
      const char* found = nullptr;
      for (const char* sign : levels[level])
        if (found == nullptr && is(sign)) found = sign;
      if (found == nullptr) return left;
      const std::size_t at = here().at;
      ++position_;
      left = combine(found, left, binary(level + 1), at);
    }
  }

  Value combine(const std::string& sign, const Value& a, const Value& b, std::size_t at) {
    const bool whole = a.whole && b.whole;
    if (sign == "||") return apply("maximum", {truth_of(a), truth_of(b)}, true);
    if (sign == "&&") return apply("minimum", {truth_of(a), truth_of(b)}, true);
    if (sign == "==") return apply("equal", {a, b}, true);
    if (sign == "!=") return apply("sub", {number(1, true), apply("equal", {a, b}, true)}, true);
    if (sign == "<") return apply("less", {a, b}, true);
    if (sign == "<=") return apply("less_equal", {a, b}, true);
    if (sign == ">") return apply("less", {b, a}, true);
    if (sign == ">=") return apply("less_equal", {b, a}, true);
    if (sign == "+") return apply("add", {a, b}, whole);
    if (sign == "-") return apply("sub", {a, b}, whole);
    if (sign == "*") return apply("mul", {a, b}, whole);
    if (sign == "%" && !whole) fail(at, "% takes whole numbers", "a real number", "cast it: (int)x");
    if (whole && b.known() && b.number == 0) fail(at, "a divisor that is not zero", "0", "divide by another number");
    Value quotient = apply("div", {a, b}, false);
    if (!whole) return quotient;
    quotient = whole_of(quotient);
    return sign == "/" ? quotient : apply("sub", {a, apply("mul", {quotient, b}, true)}, true);
  }

  Value unary() {
    if (++depth_ > 4 * kMaxDepth)
      fail(here().at, concat("expressions nest at most ", kMaxDepth, " deep"), "deeper", "use variables");
    Value out;
    if (accept("-")) {
      out = unary();
      out = apply("neg", {out}, out.whole);
    } else if (accept("+")) {
      out = unary();
    } else if (accept("!")) {
      out = is_zero(unary());
    } else {
      out = primary();
    }
    --depth_;
    return out;
  }

  // The kind of number a type name stands for: 'i', 'f', 'a' (auto), or 0 when it is no type.
  char type_name() {
    const std::size_t begin = position_;
    char kind = 0;
    while (here().kind == Token::Kind::name) {
      const std::string& name = here().text;
      if (name == "const" || name == "constexpr" || name == "unsigned" || name == "signed" || name == "long" ||
          name == "short" || name == "static") {
        if (name != "const" && name != "constexpr" && name != "static" && kind == 0) kind = 'i';
      } else if (name == "int" || name == "bool" || name == "size_t" || name == "int32_t" || name == "int64_t" ||
                 name == "uint32_t" || name == "uint64_t") {
        kind = 'i';
      } else if (name == "float" || name == "double") {
        kind = 'f';
      } else if (name == "auto") {
        kind = 'a';
      } else {
        break;
      }
      ++position_;
    }
    if (kind == 0) position_ = begin;
    return kind;
  }
  Value as(char kind, const Value& value) {
    if (kind == 'i') return whole_of(value);
    Value out = value;
    if (kind == 'f') out.whole = false;
    return out;
  }

  Value primary() {
    const Token token = here();
    if (token.kind == Token::Kind::whole || token.kind == Token::Kind::real) {
      ++position_;
      return number(token.number, token.kind == Token::Kind::whole);
    }
    if (accept("(")) {
      const char kind = type_name();
      Value out = kind != 0 ? Value{} : expression();
      expect(")");
      return kind != 0 ? as(kind, unary()) : out;
    }
    if (token.kind != Token::Kind::name)
      fail(token.at, "a number, a variable or a call is needed", spoken(), "check this line");
    if (const char kind = type_name(); kind != 0) return as(kind, call_arguments(token, 1)[0]);  // int(x)
    ++position_;
    if (token.text == "static_cast") {
      expect("<");
      const char kind = type_name();
      if (kind == 0) fail(here().at, "int or float is needed", spoken(), "write static_cast<int>(x)");
      expect(">");
      return as(kind, call_arguments(token, 1)[0]);
    }
    if (token.text == "true" || token.text == "false") return number(token.text == "true", true);
    if (is("(")) return call(token);
    return variable(token);
  }

  std::vector<Value> call_arguments(const Token& name, std::size_t count) {
    std::vector<Value> out;
    expect("(");
    if (!accept(")")) {
      do out.push_back(expression());
      while (accept(","));
      expect(")");
    }
    if (out.size() != count)
      fail(name.at, concat(name.text, " takes ", count, count == 1 ? " number" : " numbers"), concat(out.size()),
           "check its operands");
    return out;
  }

  Value call(const Token& name) {
    struct Known {
      const char* op;
      std::size_t count;
    };
    static const std::map<std::string, Known> calls = {
        {"min", {"minimum", 2}},   {"max", {"maximum", 2}},   {"fmin", {"minimum", 2}}, {"fmax", {"maximum", 2}},
        {"fminf", {"minimum", 2}}, {"fmaxf", {"maximum", 2}}, {"abs", {"abs", 1}},      {"fabs", {"abs", 1}},
        {"fabsf", {"abs", 1}},     {"sqrt", {"sqrt", 1}},     {"sqrtf", {"sqrt", 1}},   {"exp", {"exp", 1}},
        {"expf", {"exp", 1}},      {"log", {"log", 1}},       {"logf", {"log", 1}},     {"pow", {"pow", 2}},
        {"powf", {"pow", 2}},      {"floor", {"floor", 1}},   {"floorf", {"floor", 1}}, {"ceil", {"ceil", 1}},
        {"ceilf", {"ceil", 1}}};
    const auto found = calls.find(name.text);
    if (found == calls.end()) {
      std::vector<std::string> known;
      for (const auto& [text, op] : calls) known.push_back(text);
      const std::string near = nearest_name(name.text, known);
      fail(name.at, concat("a snippet calls ", join(known, ", ")), concat('"', name.text.substr(0, 40), '"'),
           near.empty() ? "write it with these" : concat("did you mean \"", near, "\"?"));
    }
    const std::vector<Value> arguments = call_arguments(name, found->second.count);
    const std::string op = found->second.op;
    bool whole = op == "minimum" || op == "maximum" || op == "abs";
    for (const Value& argument : arguments) whole = whole && argument.whole;
    if (op == "ceil") return apply("neg", {apply("floor", {apply("neg", {arguments[0]}, false)}, false)}, false);
    return apply(op.c_str(), arguments, whole);
  }

  Value variable(const Token& name) {
    if (auto found = state_.variables.find(name.text); found != state_.variables.end()) return found->second;
    if (auto found = numbers_.find(name.text); found != numbers_.end())
      return number(found->second.value, found->second.whole);
    static const std::map<std::string, const char*> sources = {{"cached_block_len", "seq_pages"},
                                                               {"seq_tokens", "seq_tokens"},
                                                               {"seq_step", "seq_step"},
                                                               {"layer_index", "layer_index"},
                                                               {"layer_count", "layer_count"}};
    if (auto found = sources.find(name.text); found != sources.end()) {
      Value& value = sources_[name.text];
      if (value.known()) value.id = append(program_, op_named(found->second), {}, {}, location_);
      return value;
    }
    std::vector<std::string> known;
    for (const auto& [text, value] : state_.variables) known.push_back(text);
    for (const auto& [text, value] : numbers_) known.push_back(text);
    for (const auto& [text, op] : sources) known.push_back(text);
    const std::string near = nearest_name(name.text, known);
    fail(name.at, concat("a snippet knows ", join(known, ", ")), concat('"', name.text.substr(0, 40), '"'),
         near.empty() ? "declare it, or use one of these" : concat("did you mean \"", near, "\"?"));
  }

  // Statements.
  void statement() {
    if (++depth_ > kMaxDepth)
      fail(here().at, concat("statements nest at most ", kMaxDepth, " deep"), "deeper", "simplify the snippet");
    const Token token = here();
    work_ += 1 + state_.variables.size();
    if (work_ > kMaxWork)
      fail(token.at, "a snippet of a few thousand statements, its loops written out", "more",
           "use fewer turns or variables");
    if (accept("{")) {
      const std::map<std::string, Value> outside = state_.variables;
      while (!accept("}")) {
        if (here().kind == Token::Kind::end) fail(here().at, "\"}\" is needed", spoken(), "close the block");
        statement();
      }
      forget_but(outside);
    } else if (accept(";")) {
    } else if (accept("if")) {
      branch();
    } else if (accept("for")) {
      loop(token);
    } else if (accept("return")) {
      const Value value = expression();
      expect(";");
      if (value.known() && value.number < 0 && !state_.always && !skipping_)
        fail(token.at, "a snippet returns a number of pages, 0 or more", print_number(value.number),
             "return how many pages a row attends");
      if (!state_.always) state_.result = pick(state_.returned, state_.result, value);
      state_.returned = number(1, true);
      state_.always = true;
    } else if (token.kind == Token::Kind::name &&
               (token.text == "while" || token.text == "do" || token.text == "goto")) {
      fail(token.at, "a snippet must end, so its loops are for loops over constants", concat('"', token.text, '"'),
           "write for (int i = 0; i < 8; ++i), or no loop");
    } else {
      assignment();
      expect(";");
    }
    --depth_;
  }

  void skip_statement() {  // one that constants rule out; its words are read all the same
    const State kept = state_;
    const bool within = std::exchange(skipping_, true);
    statement();
    skipping_ = within;
    state_ = kept;
  }

  void branch() {
    expect("(");
    const Value condition = expression();
    expect(")");
    if (condition.known()) {
      condition.number != 0 ? statement() : skip_statement();
      if (accept("else")) condition.number != 0 ? skip_statement() : statement();
      return;
    }
    const State before = state_;
    statement();
    const State yes = state_;
    state_ = before;
    if (accept("else")) statement();
    State no = state_;
    for (auto& [name, value] : no.variables) {
      const auto other = yes.variables.find(name);
      if (before.variables.contains(name) && other != yes.variables.end())
        value = pick(condition, other->second, value);
    }
    no.result = yes.returned.known() && yes.returned.number == 0 ? no.result
                : no.returned.known() && no.returned.number == 0 ? yes.result
                                                                 : pick(condition, yes.result, no.result);
    no.returned = pick(condition, yes.returned, no.returned);
    no.always = yes.always && no.always;
    if (no.always) no.returned = number(1, true);
    state_ = no;
    forget_but(before.variables);
  }

  void forget_but(const std::map<std::string, Value>& outside) {
    std::erase_if(state_.variables, [&](const auto& entry) { return !outside.contains(entry.first); });
  }

  void loop(const Token& token) {
    const std::map<std::string, Value> before = state_.variables;
    expect("(");
    assignment();
    expect(";");
    const std::size_t test = position_;
    const std::size_t step = after(';', test), body = after(')', step);
    std::size_t end = position_;
    for (int turn = 0;; ++turn) {
      position_ = test;
      const Value again = expression();
      expect(";");
      if (!again.known())
        fail(token.at, "a snippet must end, so its loops are for loops over constants", "a loop over a value",
             "use arithmetic instead of counting");
      position_ = body;
      if (again.number == 0) {
        if (turn == 0) skip_statement();
        if (turn > 0) position_ = end;
        break;
      }
      if (++turns_ > kMaxTurns)
        fail(token.at, concat("the loops of a snippet turn at most ", kMaxTurns, " times in all"), "more",
             "use arithmetic instead of counting");
      statement();
      end = position_;
      position_ = step;
      assignment();
      expect(")");
    }
    forget_but(before);
  }

  // The place behind the `sign` that closes what begins at `from`.
  std::size_t after(char sign, std::size_t from) const {
    int open = 0;
    for (std::size_t i = from; i + 1 < tokens_.size(); ++i) {
      const std::string& text = tokens_[i].text;
      if (open == 0 && text.size() == 1 && text[0] == sign) return i + 1;
      open += text == "(" ? 1 : text == ")" ? -1 : 0;
    }
    fail(tokens_[from].at, "for (int i = 0; i < 8; ++i) is the form of a loop", "another", "write it like this");
  }

  // A declaration, x = e, x += e, ++x, x++; for the head of a loop and for statements.
  void assignment() {
    if (const char kind = type_name(); kind != 0) {
      do {
        const Token name = variable_name();
        if (state_.variables.contains(name.text))
          fail(name.at, "a variable is declared once", concat('"', name.text.substr(0, 40), "\" twice"),
               "choose another name, or assign without a type");
        const Value value = accept("=") ? expression() : number(0, kind != 'f');
        state_.variables[name.text] = as(kind, value);
      } while (accept(","));
      return;
    }
    const char* step = is("++") ? "+" : is("--") ? "-" : nullptr;
    if (step != nullptr) ++position_;
    const Token name = variable_name();
    const auto found = state_.variables.find(name.text);
    if (found == state_.variables.end())
      fail(name.at, "a variable is declared before it changes", concat('"', name.text.substr(0, 40), '"'),
           numbers_.contains(name.text) || name.text == "cached_block_len" ? "copy it into a variable of your own"
                                                                           : "write int or float before it");
    const Value old = found->second;
    Value value;
    if (step == nullptr && (is("++") || is("--"))) {
      step = is("++") ? "+" : "-";
      ++position_;
    }
    if (step != nullptr) {
      value = combine(step, old, number(1, true), name.at);
    } else if (accept("=")) {
      value = expression();
    } else {
      const char* sign = is("+=") ? "+" : is("-=") ? "-" : is("*=") ? "*" : is("/=") ? "/" : is("%=") ? "%" : nullptr;
      if (sign == nullptr)
        fail(here().at, "a statement is an assignment, if, for or return", spoken(), "check this line");
      ++position_;
      value = combine(sign, old, expression(), name.at);
    }
    state_.variables[name.text] = as(old.whole ? 'i' : 'f', value);
  }

  Token variable_name() {
    const Token token = here();
    if (token.kind != Token::Kind::name)
      fail(token.at, "the name of a variable is needed", spoken(), "check this line");
    ++position_;
    return token;
  }

  Program& program_;
  const std::string& code_;
  const std::map<std::string, SnippetNumber>& numbers_;
  const SourceLocation& location_;
  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int depth_ = 0, turns_ = 0;
  std::size_t work_ = 0;
  bool skipping_ = false;  // what constants rule out
  State state_;
  std::map<std::string, Value> sources_;  // those read so far
};

}  // namespace

ValueId append_budget_snippet(Program& program, const std::string& code,
                              const std::map<std::string, SnippetNumber>& numbers, const SourceLocation& location) {
  return Snippet(program, code, numbers, location).run();
}

}  // namespace vortex::ir
