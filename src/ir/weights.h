// Learned parameters: tensors that a program reads by name, attached to it after it was traced. Reads no files: they
// come as arrays, and refuses what does not fit. Text and JSON carry the file's name and a digest, never the numbers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace vortex::ir {

struct Program;
struct Geometry;
struct Node;

// A tensor [axes...], [layers, axes...] or [layers, KV heads, axes...], row-major.
struct Parameter {
  std::vector<std::int64_t> shape;
  std::vector<float> data;
};
using Parameters = std::map<std::string, Parameter>;

struct Weights {
  std::string file;                           // that the flow names, beside its own; "": the caller says which
  std::string digest;                         // of the tensors, 16 hexadecimal digits; "": none were attached
  std::shared_ptr<const Parameters> tensors;  // axes in the order of their types; null: not in this process

  bool operator==(const Weights& other) const { return file == other.file && digest == other.digest; }
};

// The nodes that read parameters, one for each name.
std::vector<const Node*> parameters_of(const Program&);
// The program with the tensors that its parameters name; their axes come in the order in which the flow declares them.
// UserError when one is missing, has another number of axes or holds no numbers.
Program attach_weights(Program, const Parameters&);
// UserError unless every parameter has a tensor whose axes are of the geometry's sizes, for each of `layers` layers and
// `kv_heads` KV heads where it differs among them.
void require_weights(const Program&, const Geometry&, std::int64_t layers, std::int64_t kv_heads);

// Where the elements of one layer and KV head begin.
std::int64_t offset_of(const Parameter&, std::size_t axes, std::int64_t layer, std::int64_t kv_head);

}  // namespace vortex::ir
