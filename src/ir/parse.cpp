// Reads the text form of a program. The input is hostile: bounded in size, typed again by append, nothing in it is
// trusted. Every error names line and column. Refuses other versions of the IR.
#include <vortex/error.h>

#include <charconv>

#include "base/text.h"
#include "ir/op.h"
#include "ir/text.h"

namespace vortex::ir {

bool is_clean_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    auto byte = static_cast<unsigned char>(text[i]);
    std::size_t more = byte < 0x80                   ? 0
                       : byte >= 0xc2 && byte < 0xe0 ? 1
                       : byte >= 0xe0 && byte < 0xf0 ? 2
                       : byte >= 0xf0 && byte < 0xf5 ? 3
                                                     : 9;
    if (more == 9 || i + more >= text.size()) return false;
    if (more == 0 && ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f)) return false;
    std::uint32_t code = more == 0 ? byte : byte & (0x3fu >> more);
    for (std::size_t j = 1; j <= more; ++j) {
      auto next = static_cast<unsigned char>(text[i + j]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
    if (overlong || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return false;
    i += more + 1;
  }
  return true;
}

namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Program run() {
    if (text_.size() > kMaxText)
      fail(concat("a program has at most ", kMaxText, " bytes"), concat(text_.size(), " bytes"), "simplify the flow");
    if (!is_clean_text(text_))
      fail("a program is UTF-8 text without control characters", "other bytes", "check how the text was made");
    header();
    while (!at_end()) statement();
    end_flow();
    return std::move(outer_);
  }

 private:
  [[noreturn]] void fail_at(std::size_t at, const std::string& required, const std::string& came,
                            const std::string& todo) const {
    std::size_t line = 1, column = 1;
    for (std::size_t i = 0; i < at && i < text_.size(); ++i) {
      ++column;
      if (text_[i] == '\n') {
        ++line;
        column = 1;
      }
    }
    throw UserError(concat("flow text ", line, ":", column), required, came, todo);
  }
  [[noreturn]] void fail(const std::string& required, const std::string& came, const std::string& todo) const {
    fail_at(position_, required, came, todo);
  }
  // What stands at the current position, short enough for a message.
  std::string here() const {
    if (position_ >= text_.size()) return "the end of the text";
    if (text_[position_] == '\n') return "the end of the line";
    std::size_t end = position_;
    while (end < text_.size() && end < position_ + 20 && text_[end] != '\n' && text_[end] != ' ') ++end;
    while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xc0) == 0x80) ++end;  // whole letters
    return concat('"', text_.substr(position_, end - position_), '"');
  }

  bool at_end() const { return position_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  void skip_spaces() {
    while (peek() == ' ') ++position_;
  }
  bool accept(char letter) {
    skip_spaces();
    if (peek() != letter || at_end()) return false;
    ++position_;
    return true;
  }
  void expect(char letter) {
    if (!accept(letter)) fail(concat('"', letter, "\" is needed"), here(), "write a program as the printer does");
  }
  void end_line() {
    skip_spaces();
    if (at_end()) return;
    if (peek() != '\n') fail("the line must end", here(), "write one statement on a line");
    ++position_;
  }

  static bool is_word_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  }
  std::string word(const std::string& what) {
    skip_spaces();
    std::size_t begin = position_;
    while (!at_end() && is_word_letter(peek()) && position_ - begin < 128) ++position_;
    if (position_ == begin) fail(concat(what, " is needed"), here(), "write a program as the printer does");
    return std::string(text_.substr(begin, position_ - begin));
  }
  std::int64_t integer(const std::string& what) {
    skip_spaces();
    std::int64_t value = 0;
    const char* begin = text_.data() + position_;
    auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc{}) fail(concat(what, " is needed"), here(), "write a whole number");
    position_ += static_cast<std::size_t>(end - begin);
    return value;
  }
  ValueId value_id() {
    expect('%');
    std::size_t at = position_;
    std::int64_t id = integer("the number of a value");
    if (id < 0 || id >= static_cast<std::int64_t>(kMaxNodes))
      fail_at(at, concat("values are numbered from 0 to ", kMaxNodes - 1), concat(id), "number them in order");
    return static_cast<ValueId>(id);
  }
  std::string string() {
    expect('"');
    std::string out;
    while (true) {
      if (at_end() || peek() == '\n') fail("a string must be closed by \"", here(), "close the string on its line");
      char letter = text_[position_++];
      if (letter == '"') return out;
      if (letter == '\\') {
        char escape = peek();
        if (escape != 'n' && escape != 't' && escape != '"' && escape != '\\')
          fail("an escape is \\n, \\t, \\\" or \\\\", here(), "write a program as the printer does");
        ++position_;
        letter = escape == 'n' ? '\n' : escape == 't' ? '\t' : escape;
      }
      out += letter;
      if (out.size() > kMaxString) fail(concat("a string has at most ", kMaxString, " bytes"), "more", "shorten it");
    }
  }
  // An integer, a number (inf and -inf among them) or a string.
  Attribute attribute() {
    skip_spaces();
    if (peek() == '"') return string();
    std::size_t begin = position_, end = position_;
    while (end < text_.size() &&
           (is_word_letter(text_[end]) || text_[end] == '.' || text_[end] == '+' || text_[end] == '-'))
      ++end;
    const char *first = text_.data() + begin, *last = text_.data() + end;
    std::int64_t whole = 0;
    double number = 0;
    position_ = end;
    bool minus_zero = end - begin == 2 && text_.substr(begin, 2) == "-0";
    if (auto [stop, error] = std::from_chars(first, last, whole);
        error == std::errc{} && stop == last && begin < end && !minus_zero)
      return whole;
    if (auto [stop, error] = std::from_chars(first, last, number); error == std::errc{} && stop == last && begin < end)
      return number;
    position_ = begin;
    fail("a number or a string in \" is needed", here(), "write a program as the printer does");
  }

  void keyword(const std::string& expected) {
    skip_spaces();
    std::size_t at = position_;
    if (peek() == '\n' || at_end())
      fail(concat("a program begins with \"", expected, "\""), here(), "write a program as the printer does");
    std::string found = word(concat('"', expected, '"'));
    if (found != expected)
      fail_at(at, concat("\"", expected, "\" is needed"), concat('"', found, '"'),
              "write a program as the printer does");
  }

  void header() {
    keyword("vortex_ir");
    skip_spaces();
    std::size_t at = position_;
    std::int64_t version = integer("the version of the IR");
    if (version != kIrVersion)
      fail_at(at, concat("this build reads version ", kIrVersion, " of the IR"), concat("version ", version),
              "print the flow again with this build");
    end_line();
    flow_line();
  }

  void flow_line() {
    keyword("flow");
    program_.name = string();
    end_line();
  }

  // The flow that was read is the program, or that of some of its layers.
  void end_flow() {
    if (layers_.empty()) {
      outer_ = std::move(program_);
    } else {
      located(layers_at_, [&] { add_layers(outer_, std::move(layers_), std::move(program_), {}); });
    }
    program_ = {};
    source_.clear();
  }

  // From here on a flow of some layers.
  void layers(std::size_t at) {
    end_flow();
    skip_spaces();
    const std::size_t begin = position_;
    while (!at_end() && peek() != '\n' && peek() != ' ') ++position_;
    const std::string text(text_.substr(begin, position_ - begin));
    located(begin, [&] { layers_ = read_layers("layers", text); });
    if (layers_.empty()) fail_at(begin, "the layers of a flow are needed", "none", "write layers 0,1,5");
    layers_at_ = at;
    end_line();
    flow_line();
  }

  void statement() {
    skip_spaces();
    if (accept('\n')) return;
    if (peek() == '%') return node();
    std::size_t at = position_;
    std::string name = word("a statement");
    if (name == "doc") {
      program_.doc = string();
    } else if (name == "source") {
      source_ = string();
    } else if (name == "config") {
      config();
    } else if (name == "weights") {
      program_.weights.file = string();
      program_.weights.digest = string();
    } else if (name == "summary") {
      std::string summary = word("the name of a summary");
      expect('=');
      located(at, [&] { declare_summary(program_, summary, value_id(), {}); });
    } else if (name == "state") {
      std::string state = word("the name of a state");
      expect('=');
      located(at, [&] { declare_state(program_, state, value_id(), {}); });
    } else if (name == "layers") {
      return layers(at);
    } else if (!root(name, at)) {
      std::vector<std::string> known = {"doc", "source", "config", "weights", "summary", "state", "layers"};
      for (const RootDef& def : all_roots()) known.push_back(def.name);
      std::string near = nearest_name(name, known);
      fail_at(at, concat("a statement is ", join(known, ", "), " or a value %n"), concat('"', name, '"'),
              near.empty() ? "write a program as the printer does" : concat("did you mean \"", near, "\"?"));
    }
    end_line();
  }

  bool root(const std::string& name, std::size_t at) {
    for (const RootDef& def : all_roots()) {
      if (def.name != name) continue;
      expect('=');
      const ValueId value = program_.*def.value = value_id();
      if (static_cast<std::size_t>(value) >= program_.nodes.size())
        fail_at(at, concat("the ", name, " must be a value defined before it"), concat("%", value), "define it first");
      return true;
    }
    return false;
  }

  // Errors of append and config carry no place in the text; give them one.
  template <class Action>
  void located(std::size_t at, Action action) {
    try {
      action();
    } catch (const UserError& error) {
      if (error.where().starts_with("flow text")) throw;
      fail_at(at, error.required(), error.came(), error.todo());
    }
  }

  void config() {
    skip_spaces();
    while (!at_end() && peek() != '\n') {
      std::size_t at = position_;
      std::string name = word("a setting");
      expect('=');
      std::size_t begin = position_;
      while (!at_end() && peek() != '\n' && peek() != ' ') ++position_;
      std::string value(text_.substr(begin, position_ - begin));
      located(at, [&] { program_.config.set(name, value); });
      skip_spaces();
    }
  }

  void node() {
    std::size_t at = position_;
    ValueId id = value_id();
    if (static_cast<std::size_t>(id) != program_.nodes.size())
      fail_at(at, concat("the next value is %", program_.nodes.size()), concat("%", id),
              "number values in order, from 0");
    expect('=');
    skip_spaces();
    std::size_t op_at = position_;
    std::string op_name = word("an op");
    const OpDef* op = nullptr;
    located(op_at, [&] { op = &op_named(op_name); });
    std::vector<ValueId> inputs;
    Attributes attributes;
    expect('(');
    if (!accept(')')) {
      do {
        skip_spaces();
        if (peek() == '%') {
          inputs.push_back(value_id());
        } else {
          std::string name = word("an operand %n or a setting");
          expect('=');
          if (!attributes.emplace(name, attribute()).second)
            fail("a setting is given once", concat('"', name, "\" twice"), "leave one out");
        }
        if (inputs.size() + attributes.size() > 16)
          fail("an op has at most 16 operands and settings", "more", "check its operands");
      } while (accept(','));
      expect(')');
    }
    skip_spaces();
    std::size_t type_at = position_;
    std::string type;
    if (accept(':')) {
      skip_spaces();
      type_at = position_;
      while (!at_end() && peek() != '\n' && peek() != ';') ++position_;
      type = text_.substr(type_at, position_ - type_at);
      while (type.ends_with(' ')) type.pop_back();
    }
    SourceLocation location;
    if (accept(';')) {
      skip_spaces();
      location.file = source_;
      if (peek() == '"') {
        location.file = string();
        expect(':');
      }
      std::int64_t line = integer("a line number");
      if (line < 1 || line > 100'000'000) fail("a line number is positive", concat(line), "leave the place out");
      location.line = static_cast<int>(line);
    }
    located(at, [&] { append(program_, *op, std::move(inputs), std::move(attributes), location); });
    std::string inferred = print(program_.nodes.back().type);
    if (!type.empty() && type != inferred)
      fail_at(type_at, concat("%", id, " is of type ", inferred), concat('"', type.substr(0, 120), '"'),
              "leave the type out, or write this one");
    end_line();
  }

  std::string_view text_;
  std::size_t position_ = 0;
  std::string source_;
  Program program_, outer_;
  std::vector<std::int64_t> layers_;  // of the flow that is being read; none: of all
  std::size_t layers_at_ = 0;
};

}  // namespace

Program parse(const std::string& text) { return Parser(text).run(); }

}  // namespace vortex::ir
