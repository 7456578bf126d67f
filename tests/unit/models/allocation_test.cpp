// A steady step allocates nothing: counted by replacing the global operator new of this test program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "support/random_llama.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they replace it themselves

namespace {
std::atomic<std::int64_t> allocations{0};
}

[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace vortex::models {
namespace {

struct NoAttention final : attention::LayerAttention {
  void run(std::int32_t, const float*, const float*, const float*, float*) override {}
};

TEST(Model, ASteadyStepAllocatesNothing) {
  using vortex::testing::tiny_experts_config, vortex::testing::tiny_llama_config;
  for (kernels::WeightFormat format : {kernels::WeightFormat::f32, kernels::WeightFormat::q4_1})
    for (const ModelConfig& config : {tiny_llama_config(), tiny_experts_config()}) {
      vortex::testing::RandomLlama weights = vortex::testing::random_llama(config, 3, format);
      ThreadPool pool(2);
      std::unique_ptr<Model> model = make_model(weights.config, weights.weights, pool);
      NoAttention attention;
      std::vector<std::int32_t> tokens(8, 5), positions = {0, 1, 2, 3, 4, 5, 6, 7}, rows = {7, 0};
      std::vector<float> logits(2 * static_cast<std::size_t>(weights.config.vocabulary));
      auto step = [&](std::int64_t count) {
        model->step({.tokens = count,
                     .token_ids = tokens.data(),
                     .positions = positions.data(),
                     .logit_rows = 1,
                     .logit_tokens = rows.data() + 1,
                     .logits = logits.data()},
                    attention, pool);
      };
      step(8);  // the largest step grows the workspace
      const std::int64_t before = allocations;
      for (std::int64_t count : {8, 1, 4, 8}) step(count);
      EXPECT_EQ(allocations - before, 0) << config.architecture << " " << kernels::name_of(format);
    }
}

}  // namespace
}  // namespace vortex::models

#endif
