#include "engine/workbench.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <functional>

#include "base/text.h"
#include "support/flows.h"
#include "tiny.h"

namespace vortex::engine {
namespace {

using Tokens = std::vector<std::int32_t>;
using Sequences = std::vector<Workbench::Sequence>;

EngineConfig config_of(std::int64_t pages = 512) {
  EngineConfig config = tiny_config();
  config.pages = pages;
  return config;
}

std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

std::string words(const std::function<void()>& work) {
  try {
    work();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Workbench, ArmsShareThePrefillAndDoNotDisturbEachOther) {
  ir::Program flow = centroid_flow(3), covering = centroid_flow(1000);
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  int narrow = bench.load_flow(flow), wide = bench.load_flow(covering);
  Tokens prompt = random_tokens(101, 5);
  Workbench::Sequence base = bench.prefill(prompt);
  std::int64_t free = bench.free_pages();
  Sequences arms = {bench.fork(base, kFullAttention), bench.fork(base, narrow), bench.fork(base, wide)};
  EXPECT_EQ(bench.free_pages(), free);
  std::vector<std::vector<float>> together, apart(3);
  for (std::int32_t token : random_tokens(12, 6))
    together.push_back(copy(bench.decode(arms, Tokens{token, token, token})));
  bench.check_integrity();
  for (std::size_t arm = 0; arm < 3; ++arm) {
    Workbench other(std::make_shared<TinyModel>(), config_of());
    int ids[] = {kFullAttention, other.load_flow(flow), other.load_flow(covering)};
    Sequences alone = {other.fork(other.prefill(prompt), ids[arm])};
    std::size_t step = 0;
    for (std::int32_t token : random_tokens(12, 6)) {
      std::vector<float> logits = copy(other.decode(alone, Tokens{token}));
      EXPECT_TRUE(
          std::equal(logits.begin(), logits.end(), together[step].begin() + static_cast<std::ptrdiff_t>(61 * arm)))
          << "arm " << arm << ", step " << step;
      ++step;
    }
  }
  for (const auto& logits : together) {
    EXPECT_TRUE(std::equal(logits.begin(), logits.begin() + 61, logits.begin() + 122))
        << "a covering budget is full attention";
    EXPECT_FALSE(std::equal(logits.begin(), logits.begin() + 61, logits.begin() + 61)) << "a narrow one is not";
  }
  EXPECT_EQ(bench.length(base), 101);
  for (Workbench::Sequence id : {base, arms[0], arms[1], arms[2]}) bench.release(id);
  EXPECT_EQ(bench.free_pages(), 512);
  bench.check_integrity();
}

TEST(Workbench, TruncatedSequencesRepeatThemselves) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  int flow = bench.load_flow(centroid_flow(4));
  Workbench::Sequence base = bench.prefill(random_tokens(77, 1));
  Sequences arm = {bench.fork(base, flow)};
  Tokens first = bench.greedy(arm, Tokens{7}, 20);
  EXPECT_EQ(bench.length(arm[0]), 97);
  bench.truncate(arm[0], 77);
  EXPECT_EQ(bench.greedy(arm, Tokens{7}, 20), first);
  bench.check_integrity();
  Sequences again = {bench.fork(base, flow)};
  EXPECT_EQ(bench.greedy(again, Tokens{7}, 20), first);
}

TEST(Workbench, FedStepsAreThoseOfDecode) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  const int flow = bench.load_flow(centroid_flow(4));
  const Workbench::Sequence base = bench.prefill(random_tokens(77, 1));
  const Sequences chosen = {bench.fork(base, flow), bench.fork(base, kFullAttention)};
  const Sequences fed = {bench.fork(base, flow), bench.fork(base, kFullAttention)};
  const Tokens greedy = bench.greedy(chosen, Tokens{7, 8}, 20);
  Tokens tokens = {7, 8};  // what greedy decoding feeds itself
  tokens.insert(tokens.end(), greedy.begin(), greedy.end() - 2);
  EXPECT_EQ(bench.feed(fed, tokens), greedy);
  EXPECT_EQ(bench.length(fed[0]), 97);
  const Sequences alone = {bench.fork(base, flow)}, again = {bench.fork(base, flow)};
  const Tokens other = random_tokens(30, 2);
  bench.feed(alone, other);
  for (const std::int32_t token : other) bench.decode(again, Tokens{token});
  const std::span<const float> after = bench.decode(alone, Tokens{3});
  const std::vector<float> logits(after.begin(), after.end());
  EXPECT_TRUE(std::ranges::equal(bench.decode(again, Tokens{3}), logits));
  const Sequences silent = {bench.fork(base, flow)};
  EXPECT_TRUE(bench.feed(silent, other, false).empty());
  EXPECT_TRUE(std::ranges::equal(bench.decode(silent, Tokens{3}), logits));
  EXPECT_EQ(
      words([&] {
        bench.feed(fed, Tokens{1, 2, 3});
      }),
      "[workbench] a token for each sequence in each step; 3 tokens for 2 sequences; give [steps, sequences] tokens");
  bench.check_integrity();
}

TEST(Workbench, TruncatedSequencesCountTheirStepsAgain) {
  ir::Program flow;
  flow.name = "chance";
  flow.config = {.page_size = 4, .budget = 5, .recent = 1};
  auto op = [&](const char* name, std::vector<ir::ValueId> inputs) {
    return ir::append(flow, ir::op_named(name), std::move(inputs), {}, {"chance.py", 1});
  };
  flow.score = op("random", {op("page_index", {}), op("seq_step", {})});
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  Sequences arm = {bench.fork(bench.prefill(random_tokens(77, 1)), bench.load_flow(flow))};
  bench.record_pages(true);
  auto lists = [&] {
    std::vector<std::vector<std::int32_t>> out;
    for (int step = 0; step < 6; ++step) {
      bench.decode(arm, Tokens{7});
      out.push_back(bench.page_list(arm[0], 0, 0));
    }
    return out;
  };
  const auto first = lists();
  EXPECT_NE(first[0], first[1]) << "other pages at each step";
  bench.truncate(arm[0], 79);
  bench.decode(arm, Tokens{7});
  EXPECT_EQ(bench.page_list(arm[0], 0, 0), first[2]);
  bench.truncate(arm[0], 60);
  EXPECT_EQ(
      words([&] { bench.attended(arm[0]); }),
      "[workbench] a recorded step that decoded the sequence; sequence 1; call record_pages(true) before the step");
  bench.truncate(arm[0], 60);
  EXPECT_EQ(lists().size(), first.size());
}

TEST(Workbench, PrefillLogitsAreThoseOfADecode) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  Tokens prompt = random_tokens(70, 3);
  std::vector<float> logits(61);
  bench.prefill(prompt, logits.data());
  Sequences shorter = {bench.prefill(std::span(prompt).first(69))};
  EXPECT_EQ(copy(bench.decode(shorter, Tokens{prompt.back()})), logits) << "bit for bit";
}

TEST(Workbench, FilledSequencesAreDistinctAndSpread) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  Sequences filled = {bench.fill(300, 1), bench.fill(300, 2), bench.fill(300, 1)};
  std::vector<float> logits = copy(bench.decode(filled, Tokens{5, 5, 5}));
  std::span<const float> all = logits;
  EXPECT_TRUE(std::equal(all.begin(), all.begin() + 61, all.begin() + 122)) << "the seed decides";
  EXPECT_FALSE(std::equal(all.begin(), all.begin() + 61, all.begin() + 61));
  for (float x : logits) EXPECT_TRUE(std::isfinite(x));
  bench.check_integrity();
  EXPECT_GT(bench.statistics().attended_tokens, 0);
  EXPECT_EQ(bench.statistics().kv_bytes, bench.statistics().attended_tokens * 2 * 16 * 2)
      << "K and V of 16 channels in bf16";
}

TEST(Workbench, RecordsWhichPagesWereAttended) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  int flow = bench.load_flow(centroid_flow(4));
  Workbench::Sequence base = bench.prefill(random_tokens(101, 5));
  Sequences arms = {bench.fork(base, flow), bench.fork(base, kFullAttention)};
  bench.decode(arms, Tokens{1, 1});
  EXPECT_EQ(
      words([&] { bench.page_list(arms[0], 0, 0); }),
      "[workbench] a recorded step that decoded the sequence; sequence 1; call record_pages(true) before the step");
  bench.record_pages(true);
  bench.reset_statistics();
  bench.decode(arms, Tokens{1, 1});
  std::int64_t pages = 0;
  for (std::int64_t layer : {0, 1})
    for (std::int64_t head : {0, 1}) {
      std::vector<std::int32_t> list = bench.page_list(arms[0], layer, head);
      EXPECT_EQ(list.size(), 4u);
      EXPECT_TRUE(std::is_sorted(list.begin(), list.end()));
      EXPECT_EQ(list.front(), 0) << "the sink";
      EXPECT_EQ(list.back(), 25) << "the open page";
      EXPECT_EQ(bench.page_list(arms[1], layer, head).size(), 26u);
      pages += 4 + 26;
    }
  EXPECT_EQ(bench.statistics().attended_pages, pages);
  EXPECT_EQ(bench.statistics().candidate_pages, 4 * 24);
  EXPECT_EQ(bench.statistics().sparse_rows, 4);
  bench.prefill(random_tokens(9, 2));
  for (Workbench::Sequence arm : arms)
    EXPECT_NE(words([&] { bench.page_list(arm, 1, 1); }), "") << "the last step was another's";
}

TEST(Workbench, SavedSequencesGoOnAsIfTheyHadBeenPrefilled) {
  ir::Program flow = centroid_flow(3);
  Tokens prompt = random_tokens(101, 5);
  Workbench bench(std::make_shared<TinyModel>(), config_of()), other(std::make_shared<TinyModel>(), config_of());
  int id = bench.load_flow(flow), same = other.load_flow(flow);
  Workbench::Sequence base = bench.prefill(prompt);
  std::vector<std::byte> saved = bench.save(base);
  Workbench::Sequence back = other.restore(saved, 101);
  EXPECT_EQ(other.length(back), 101);
  EXPECT_EQ(other.save(back), saved);
  Sequences ours = {bench.fork(base, kFullAttention), bench.fork(base, id)};
  Sequences theirs = {other.fork(back, kFullAttention), other.fork(back, same)};
  for (std::int32_t token : random_tokens(5, 6))
    EXPECT_EQ(copy(bench.decode(ours, Tokens{token, token})), copy(other.decode(theirs, Tokens{token, token})));
  std::int64_t bytes = static_cast<std::int64_t>(saved.size());
  saved.pop_back();
  EXPECT_EQ(words([&] { other.restore(saved, 101); }),
            concat("[workbench] ", bytes, " bytes for the KV of 101 tokens; ", bytes - 1,
                   " bytes; restore what a workbench of the same model, page size and KV type saved"));
  EXPECT_EQ(words([&] { bench.save(ours[1]); }),
            "[workbench] a sequence that was prefilled; sequence 2, in which a flow made KV; save it before the first "
            "decode of a flow");
  other.check_integrity();
}

TEST(Workbench, CountsWhatASequenceAttended) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  Workbench::Sequence base = bench.prefill(random_tokens(101, 5));
  Sequences arms = {bench.fork(base, kFullAttention), bench.fork(base, bench.load_flow(centroid_flow(3)))};
  bench.record_pages(true);
  bench.reset_statistics();
  bench.decode(arms, Tokens{1, 2});
  Workbench::Attended full = bench.attended(arms[0]), narrow = bench.attended(arms[1]);
  const engine::StepStatistics& counted = bench.statistics();
  EXPECT_EQ(full.tokens, counted.rows / 2 * 102);
  EXPECT_EQ(full.tokens + narrow.tokens, counted.attended_tokens);
  EXPECT_EQ(narrow.pages, counted.rows / 2 * 3);
}

TEST(Workbench, CountsTheSummariesThatScoresAndARestRead) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  const Workbench::Sequence base = bench.prefill(random_tokens(101, 5));
  for (const char* config : {"budget=8 page_size=4", "budget=8 page_size=4 full_attention_layers=1",
                             "budget=1000 page_size=4"}) {  // a layer, or a step, that scores nothing reads nothing
    const int flow = bench.load_flow(ir::parse(testing::rest_flow().text(config)));
    const Sequences arm = {bench.fork(base, flow)};
    bench.reset_statistics();
    bench.decode(arm, Tokens{1});
    const engine::StepStatistics& counted = bench.statistics();
    EXPECT_EQ(counted.candidate_pages > 0, counted.sparse_rows > 0) << config;
    EXPECT_EQ(counted.summary_bytes, counted.candidate_pages * (16 + 16) * 2) << config;  // keys and values in bf16
  }
}

TEST(Workbench, FlowsComeAndGo) {
  Workbench bench(std::make_shared<TinyModel>(), config_of());
  Workbench::Sequence base = bench.prefill(random_tokens(50, 5));
  for (int i = 0; i < 3; ++i) {
    int flow = bench.load_flow(centroid_flow(3 + i));
    EXPECT_EQ(flow, i);
    EXPECT_GT(bench.summary_bytes(), 0);
    Sequences arm = {bench.fork(base, flow)};
    bench.decode(arm, Tokens{3});
    EXPECT_NE(words([&] { bench.unload_flow(flow); }), "");
    bench.release(arm[0]);
    bench.unload_flow(flow);
    EXPECT_EQ(bench.summary_bytes(), 0);
    EXPECT_EQ(words([&] { bench.fork(base, flow); }),
              concat("[workbench] the id of a loaded flow, or -1 for full attention; ", flow,
                     "; use the id that load_flow returned"));
  }
}

TEST(Workbench, RefusesWithTheReason) {
  Workbench bench(std::make_shared<TinyModel>(), config_of(16));
  int flow = bench.load_flow(centroid_flow(3)), other = bench.load_flow(centroid_flow(4));
  EXPECT_EQ(
      words([&] { bench.prefill(Tokens{}); }),
      "[workbench] 1 to 1024 tokens in a sequence; 0; change the length, or raise max_context if the model allows it");
  EXPECT_EQ(words([&] { bench.prefill(Tokens{-1}); }),
            "[workbench] tokens below the vocabulary of 61; token -1; encode text with the model's own tokenizer");
  EXPECT_EQ(words([&] { bench.prefill(random_tokens(65, 1)); }),
            "[workbench] a pool with 17 free pages; 16 of 16; release sequences, or give the workbench more pages");
  Workbench::Sequence base = bench.prefill(random_tokens(30, 1));
  Sequences arm = {bench.fork(base, flow)};
  bench.decode(arm, Tokens{1});
  EXPECT_EQ(words([&] { bench.fork(arm[0], other); }),
            concat("[workbench] a fork under flow ", flow, ", which made KV of sequence 1; flow ", other,
                   "; fork before the first decode, or truncate to whole pages that were prefilled"));
  EXPECT_EQ(words([&] {
              bench.decode(Sequences{base, base}, Tokens{1, 1});
            }),
            "[workbench] each sequence once in a step; sequence 0 twice; fork it");
  EXPECT_EQ(
      words([&] { bench.decode(Sequences{base}, Tokens{}); }),
      "[workbench] 1 to 8 sequences and as many tokens; 1 sequences, 0 tokens; split the batch, or raise max_batch");
  EXPECT_EQ(words([&] { bench.truncate(base, 31); }), "[workbench] a length from 1 to 30; 31; give another");
  EXPECT_EQ(words([&] { bench.release(99); }),
            "[workbench] a sequence that was made and not released; sequence 99; make one with prefill or fill");
  bench.check_integrity();
}

}  // namespace
}  // namespace vortex::engine
