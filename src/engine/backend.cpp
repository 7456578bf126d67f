#include "engine/backend.h"

#include "engine/cpu_backend.h"
#include "models/model.h"

namespace vortex::engine {

std::unique_ptr<Backend> make_backend(std::shared_ptr<models::Model> model, const EngineConfig& config,
                                      const attention::Geometry& geometry, ThreadPool& threads) {
  return std::make_unique<CpuBackend>(std::move(model), config, geometry, threads);
}

}  // namespace vortex::engine
