// Memory that steps of one engine share, grown to the largest step and then kept, so that a steady step allocates
// nothing.
#pragma once

#include <memory>

namespace vortex::attention {

class StepWorkspace {
 public:
  StepWorkspace();
  ~StepWorkspace();
  StepWorkspace(const StepWorkspace&) = delete;
  StepWorkspace& operator=(const StepWorkspace&) = delete;

  struct State;
  State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

}  // namespace vortex::attention
