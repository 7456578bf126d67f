#include "engine/backend.h"

#include <vortex/error.h>

#include "base/check.h"
#include "engine/cpu_backend.h"
#include "models/model.h"
#if VORTEX_CUDA
#include "engine/cuda/cuda_backend.h"
#endif

namespace vortex::engine {

void Backend::run_ahead(const BackendStep&, std::int64_t, std::int32_t*) {
  VORTEX_CHECK(false, "a backend that does not run ahead");
}

void Backend::launch(const BackendStep&) { VORTEX_CHECK(false, "a backend that runs one step at a time"); }
BackendResult Backend::finish(StepStatistics*) { VORTEX_CHECK(false, "a backend that runs one step at a time"); }

void require_served(const ir::Program& program, device::Kind kind, const attention::Geometry& geometry) {
#if VORTEX_CUDA
  constexpr int kTokens = 4096;  // of a sequence: no refusal depends on it
  if (kind != device::Kind::cpu)
    CudaBackend::make_flow(device::open(device::Kind::null), program, geometry, 1, kTokens);
#else
  static_cast<void>(program), static_cast<void>(geometry);
  if (kind != device::Kind::cpu) device::open(kind);
#endif
}

StepProfile Backend::profile(const BackendStep&) {
  throw UserError("profile", "a model on a device, whose steps are kernels", "one on the cpu",
                  "load it with device cuda; on the cpu vortex bench shows the parts of every step");
}

std::unique_ptr<Backend> make_backend(std::shared_ptr<models::Model> model, const EngineConfig& config,
                                      const attention::Geometry& geometry, ThreadPool& threads) {
#if VORTEX_CUDA
  if (auto on_device = std::dynamic_pointer_cast<models::CudaDecoder>(model))
    return std::make_unique<CudaBackend>(std::move(on_device), config, geometry);
#endif
  return std::make_unique<CpuBackend>(std::move(model), config, geometry, threads);
}

}  // namespace vortex::engine
