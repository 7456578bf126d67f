// How an architecture takes its weights: by name and shape, each once, with an error that names what is wrong. Refuses
// to leave a weight unused: a weight nobody asked for means that the model would compute something else than its file
// says.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "models/model.h"

namespace vortex::models {

// Consecutive linears on the same input, one stacked matrix where their formats allow it.
class FusedLinear {
 public:
  std::int64_t rows() const { return rows_; }
  std::int64_t bytes() const;
  // y[t, :] = [W0 x | W1 x | ...] + [bias0 | bias1 | ...]
  void run(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t tokens,
           ThreadPool&) const;

 private:
  friend class WeightReader;
  std::vector<std::shared_ptr<const kernels::PackedLinear>> parts_;
  std::vector<float> bias_;  // [rows] or empty
  std::int64_t rows_ = 0;
};

struct LinearName {
  std::string name;  // without ".weight" and ".bias"
  std::int64_t rows;
};

class WeightReader {
 public:
  WeightReader(const WeightSource& source, ThreadPool& pool) : source_(source), pool_(pool) {}

  // use: what the caller makes of it, for those who count memory.
  Weight matrix(const std::string& name, std::int64_t rows, std::int64_t columns,
                RequiredWeight::Use use = RequiredWeight::Use::in_place);
  std::vector<float> vector(const std::string& name, std::int64_t size);  // in float, whatever the file holds
  FusedLinear linear(const std::vector<LinearName>& names, std::int64_t columns, bool bias = false,
                     kernels::Activations = kernels::Activations::int8);
  // UserError when a weight of the file was not taken.
  void finish(const std::string& architecture) const;

 private:
  using Use = RequiredWeight::Use;
  // The weight, checked; nothing where only shapes are wanted.
  std::optional<Weight> take(const std::string& name, std::int64_t rows, std::int64_t columns, Use);

  const WeightSource& source_;
  ThreadPool& pool_;
  std::set<std::string> taken_;
  // A weight that is still in use is not made a second time (the embedding that is the output head too).
  std::map<std::string, std::pair<kernels::WeightView, std::weak_ptr<const void>>> alive_;
};

}  // namespace vortex::models
