// What an op is: one OpDef per op, each in its own file below ops/, listed in ops/table.cpp. Passes ask the op; they
// keep no lists of ops.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/program.h"

namespace vortex::ir {

// How an op treats its axes; this is what scheduling needs to know.
enum class OpKind : std::uint8_t {
  source,       // no inputs: q, page_k, page_v, page_index, constants, summary fields
  elementwise,  // each output element from the same-named elements of its inputs
  reduction,    // one axis (attribute "axis") disappears; the axis "page" makes a @row value of a @page value
  along,        // same shape, every element depends on a whole axis: softmax, normalize, cumsum
  contraction,  // Σ over a shared axis (attribute "over") of a product of two inputs
  shape,        // split, merge, rename, slice, low_frequency, nope: no arithmetic
  selection,    // a set of pages from one number a page (input 0) and an amount (input 1): top_k, top_p
  list,         // a set of pages as one thing of the row, which other values are confined to: members
  domain,       // values of one domain as values of another, no arithmetic: confine, spread, shift
};
const char* name_of(OpKind);

// The phase in which a value may be used. `any` values take the phase of what they meet.
enum class Phase : std::uint8_t { any, summarize, score };

enum class AttributeKind : std::uint8_t { integer, number, text, axis };  // axis: text that names an axis of input 0
// What input 1 of an op on sets may be where it is a constant: any number, at least one page, a share.
enum class Amount : std::uint8_t { any, pages, share };

struct AttributeDef {
  std::string name = {};
  AttributeKind kind = AttributeKind::number;
  bool required = true;
  Attribute fallback = std::int64_t{0};
  std::string doc = {};
};

// A dense double-precision tensor of the interpreter, over the type's axes with all symbols bound, `page` axis first
// for
// @page values.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> data;
};

struct InferContext {
  std::span<const Type> inputs;
  std::span<const ValueId> ids;  // of the inputs
  const Attributes& attributes;
  const Program& program;  // for `summary`, which takes the type of the summary's value
};

// What the interpreter knows when it asks a source for its value; see interpret.h.
struct SourceContext;

// A shape op reads output element `out` from input element `in`; both are indices over the axes of their types.
struct MoveContext {
  const Type& input;
  const Type& output;
  std::span<const std::int64_t> input_shape, output_shape;  // sizes of their axes
  const Attributes& attributes;
};

struct OpDef {
  std::string name = {};  // "maximum"; also its name in Python and in the text form
  std::string doc = {};   // what it computes, with NaN and edge cases; the reference page is made of these
  OpKind kind = OpKind::elementwise;
  int arity = 0;  // number of inputs
  std::vector<AttributeDef> attributes = {};
  bool commutative = false;
  // Strictly increasing in its only input, so it may be dropped between a score and its top-k: exp, tanh, sigmoid, and
  // softmax over "page".
  bool order_preserving = false;
  // op(x, r) orders pages as x does when r is the same for all pages: add, sub.
  bool shifts = false;
  // A positive constant factor of any operand is a positive constant factor of the result: mul, dot, sum, abs, sqrt.
  bool homogeneous = false;
  std::string up_to_scale = {};        // the op this one equals up to such a factor: "sum" for mean
  bool nonnegative = false;            // the result is never below zero, whatever the inputs
  std::optional<double> neutral = {};  // op(x, neutral) = x, for the right-hand operand
  std::string mirror = {};             // op(a, b) = mirror(b, a); the canonical form uses the mirror
  Phase phase = Phase::any;            // sources: where they exist
  bool ranks = false;                  // sees of input 0 only how it orders pages
  bool condition = false;              // input 0 may be a set: where
  Amount amount = Amount::any;         // of input 1
  bool takes_sets = false;             // inputs are sets of pages, not numbers
  bool takes_any = false;              // infer says which inputs are sets: confine, spread
  bool of_sequence = false;            // sources: a number known before any row is scored, so a budget may read it
  // Result type. Throws UserError with location "" (append adds the flow's file and line).
  Type (*infer)(const InferContext&) = nullptr;
  // sources: the value under an environment, over `shape` (page axis first for @page values).
  void (*source)(const SourceContext&, const Node&, Tensor& out) = nullptr;
  // elementwise: the definition of the op on scalars in double precision.
  double (*scalar)(std::span<const double> inputs, const Attributes& attributes) = nullptr;
  // reduction and along: the definition along one axis; `values` is the axis, `out` has one element or as many.
  void (*axis)(std::span<const double> values, std::span<double> out, const Attributes& attributes) = nullptr;
  // selection: 1 for each page that is chosen, else 0; `values` are those of the candidates.
  void (*choose)(std::span<const double> values, double amount, const Attributes& attributes,
                 std::span<double> out) = nullptr;
  // shape: which input element an output element is.
  void (*move)(const MoveContext&, std::span<const std::int64_t> out, std::span<std::int64_t> in) = nullptr;
  // elementwise: the same in CUDA C++ on float, "$0" and "$1" for the operands, "$name" for an attribute.
  std::string cuda = {};
  // elementwise, reduction, along, contraction: the tile primitive of the CPU backend (kernels/cpu/tile), by name.
  std::string tile = {};
};

std::span<const OpDef* const> all_ops();       // in the order of the table
const OpDef* find_op(std::string_view name);   // null when there is none
const OpDef& op_named(std::string_view name);  // UserError with the nearest name when there is none

inline constexpr std::size_t kMaxNodes = 4096;  // of a program; verify refuses more, append leaves rewrites some room
inline constexpr std::size_t kMaxName = 200;    // bytes of a flow's name
inline constexpr std::size_t kMaxSummaries = 64;
inline constexpr std::size_t kMaxStates = 16;
inline constexpr std::size_t kMaxParameters = 16;
inline constexpr std::size_t kMaxOthers = 16;
inline constexpr std::size_t kMaxAxes = 8;
inline constexpr std::int64_t kMaxElements = 1 << 20;  // of one instance of a value, under a geometry

// Whether every page of the first list is on the second, as the program's own words say; both are values of `members`.
bool is_sublist(const Program&, ValueId list, ValueId other);
// Appends an op as a flow writes it: operands of the wider of two domains are confined to the narrower one.
ValueId append_meeting(Program&, const OpDef&, std::vector<ValueId> inputs, Attributes attributes,
                       SourceLocation location);
// Appends a node after checking arity and attributes and inferring its type; UserError carries `location`.
ValueId append(Program&, const OpDef&, std::vector<ValueId> inputs, Attributes attributes, SourceLocation location);
// Declares a summary. UserError when the name is taken or is not a name.
void declare_summary(Program&, const std::string& name, ValueId value, const SourceLocation& location);

// Says what a state, which some node reads, is in the next step. UserError when none reads it, when it is said twice,
// or when the value does not fit.
void declare_state(Program&, const std::string& name, ValueId value, const SourceLocation& location);
// Gives some layers a flow of their own. UserError when a layer has one, or the flow has others of its own.
void add_layers(Program&, std::vector<std::int64_t> layers, Program flow, const SourceLocation& location);
// "0,1,5"; UserError naming `name`.
std::vector<std::int64_t> read_layers(const std::string& name, std::string_view text);
std::string print_layers(const std::vector<std::int64_t>&);
inline bool is_parameter(const Node& node) { return node.op->name == "param"; }
inline bool is_state(const Node& node) { return node.op->name == "page_state" || node.op->name == "seq_state"; }
// A node that reads the state of this name; null when none does.
const Node* reader_of(const Program&, std::string_view state);

// Attributes of a node that append has checked.
std::int64_t integer_of(const Attributes&, const std::string& name);
double number_of(const Attributes&, const std::string& name);
const std::string& text_of(const Attributes&, const std::string& name);
// The axis a reduction, an `along` or a contraction works on; "" for other ops.
std::string axis_of(const Node&);

// "quest.py:12", or "flow Quest" when the line is unknown.
std::string print(const SourceLocation&, const Program&);

}  // namespace vortex::ir
