// Steps on the CPU: KV and summaries in host memory, CPU kernels on the runner's threads.
#pragma once

#include "attention/arena.h"
#include "attention/cpu/step.h"
#include "engine/backend.h"
#include "engine/memory.h"

namespace vortex::engine {

class CpuBackend final : public Backend {
 public:
  CpuBackend(std::shared_ptr<models::Model>, const EngineConfig&, const attention::Geometry&, ThreadPool&);

  std::int64_t available_bytes() const override;
  std::int64_t page_bytes() const override { return KvMemory::page_bytes(geometry_); }
  std::int64_t compile(int number, const ir::Program&) override;
  void forget(int number) override;
  attention::CarriedLayout carried(int number) const override {
    return attention::carried_by(flows_[static_cast<std::size_t>(number)], geometry_);
  }

  void allocate(std::int64_t pages) override;
  void allocate_summaries(int number) override;
  std::int64_t kv_bytes() const override { return memory_ ? memory_->bytes() : 0; }
  std::int64_t summary_bytes() const override;

  void invalidate(kv::Page) override;
  void copy(kv::Page from, kv::Page to) override { memory_->copy(from, to); }
  void save(std::span<const kv::Page>, std::byte* to) const override;
  void restore(std::span<const kv::Page>, const std::byte* from) override;
  void fill(std::span<const kv::Page>, std::uint64_t seed) override;

  BackendResult run(const BackendStep&) override;

 private:
  std::int64_t arena_layers(const attention::LoadedFlow&) const;
  void add_statistics(const attention::StepStatistics&, StepStatistics&) const;

  std::shared_ptr<models::Model> model_;
  attention::Geometry geometry_;
  ThreadPool& threads_;
  std::int64_t pages_ = 0;
  std::unique_ptr<KvMemory> memory_;
  std::vector<attention::LoadedFlow> flows_;
  std::vector<std::unique_ptr<attention::SummaryArena>> arenas_;
  attention::StepWorkspace workspace_;
  std::vector<float> logits_;  // [max_batch, vocabulary]
};

}  // namespace vortex::engine
