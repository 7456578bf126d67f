#include "engine/backend.h"

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

std::unique_ptr<Backend> make_backend(std::shared_ptr<models::Model> model, const EngineConfig& config,
                                      const attention::Geometry& geometry, ThreadPool& threads) {
#if VORTEX_CUDA
  if (auto on_device = std::dynamic_pointer_cast<models::CudaDecoder>(model))
    return std::make_unique<CudaBackend>(std::move(on_device), config, geometry);
#endif
  return std::make_unique<CpuBackend>(std::move(model), config, geometry, threads);
}

}  // namespace vortex::engine
