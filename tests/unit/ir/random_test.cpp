// Properties over random programs: what is printed reads back, the canonical form keeps the order of pages, hashes do
// not see names and commuted operands, and no change of a text makes a reader crash.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <mutex>

#include "base/thread_pool.h"
#include "random_program.h"

namespace vortex::ir {
namespace {

// A few hundred programs in the quick run, thousands in the full one.
class RandomPrograms : public testing::TestWithParam<Seeds> {
 protected:
  int first() const { return GetParam().first; }
  int end() const { return first() + GetParam().count; }
  Program make(int i) const {
    return RandomProgram(static_cast<std::uint64_t>(i), static_cast<int>(1 + std::int64_t{i} * 30 / GetParam().of))
        .program();
  }
};

INSTANTIATE_TEST_SUITE_P(Quick, RandomPrograms, testing::Values(Seeds{0, 200, 200}));
INSTANTIATE_TEST_SUITE_P(Slow, RandomPrograms, testing::Values(Seeds{0, 3000, 3000}));
INSTANTIATE_TEST_SUITE_P(Long, RandomPrograms, testing::ValuesIn(long_run()));

// Hashes are told apart over all programs of a run, in one process.
class RandomHashes : public RandomPrograms {};

INSTANTIATE_TEST_SUITE_P(Quick, RandomHashes, testing::Values(Seeds{0, 200, 200}));
INSTANTIATE_TEST_SUITE_P(Slow, RandomHashes, testing::Values(Seeds{0, 3000, 3000}));
INSTANTIATE_TEST_SUITE_P(Long, RandomHashes, testing::ValuesIn(long_run(std::numeric_limits<int>::max())));

TEST_P(RandomPrograms, ReadBackFromTextAndJson) {
  for (int i = first(); i < end(); ++i) {
    Program program = make(i);
    ASSERT_NO_THROW(verify(program)) << print(program);
    std::string text = print(program), json = to_json(program);
    ASSERT_EQ(parse(text), program) << text;
    ASSERT_EQ(print(parse(text)), text);
    ASSERT_EQ(from_json(json), program) << text << json;
    ASSERT_EQ(to_json(from_json(json)), json);
  }
}

TEST_P(RandomPrograms, CanonicalFormIsAFixedPoint) {
  for (int i = first(); i < end(); ++i) {
    Program program = make(i);
    Program canonical = canonicalize(program);
    ASSERT_NO_THROW(verify(canonical)) << print(program) << print(canonical);
    ASSERT_EQ(print(canonicalize(canonical)), print(canonical)) << print(program);
    ASSERT_EQ(canonical_hash(canonical), canonical_hash(program));
    ASSERT_LE(canonical.summaries.size(), program.summaries.size());
  }
}

// Pages whose scores clearly differ stand in the same order under the canonical form.
TEST_P(RandomPrograms, CanonicalFormKeepsTheOrderOfPages) {
  int compared = 0;
  for (int i = first(); i < end(); ++i) {
    Program program = make(i);
    Program canonical = canonicalize(program);
    if (hangs_on_last_bits(canonical)) continue;
    RandomInputs inputs(static_cast<std::uint64_t>(i));
    std::vector<double> before = inputs.scores(program), after = inputs.scores(canonical);
    ASSERT_EQ(before.size(), after.size());
    for (std::size_t a = 0; a < before.size(); ++a) {
      for (std::size_t b = 0; b < before.size(); ++b) {
        bool finite = std::isfinite(before[a]) && std::isfinite(before[b]);
        if (!finite || before[a] - before[b] <= 1e-8 * (1.0 + std::fabs(before[a]))) continue;
        ++compared;
        ASSERT_GT(after[a], after[b]) << "pages " << a << " and " << b << ": " << before[a] << " > " << before[b]
                                      << "\n"
                                      << print(program) << print(canonical);
      }
    }
  }
  EXPECT_GT(compared, GetParam().count / 2);  // the test compares something
}

// The same flow written differently: other names, commuted operands, a value nobody reads.
Program rewritten(const Program& program) {
  Program out;
  out.name = "another name";
  out.config = program.config;
  out.weights = program.weights;
  std::size_t declared = 0;
  std::vector<ValueId> renamed;
  for (std::size_t id = 0; id < program.nodes.size(); ++id) {
    const Node& node = program.nodes[id];
    std::vector<ValueId> inputs;
    for (ValueId input : node.inputs) inputs.push_back(renamed[static_cast<std::size_t>(input)]);
    if (node.op->commutative) std::swap(inputs[0], inputs[1]);
    Attributes attributes = node.attributes;
    if (node.op->name == "summary" || is_state(node)) attributes["name"] = "other_" + text_of(attributes, "name");
    if (id % 3 == 0) append(out, op_named("constant"), {}, {{"value", 7.0}}, {});
    renamed.push_back(append(out, *node.op, inputs, attributes, {"elsewhere.py", 1}));
    for (; declared < program.summaries.size() && program.summaries[declared].value <= static_cast<ValueId>(id);
         ++declared)
      declare_summary(out, "other_" + program.summaries[declared].name,
                      renamed[static_cast<std::size_t>(program.summaries[declared].value)], {});
  }
  for (std::size_t s = program.states.size(); s-- > 0;)
    declare_state(out, "other_" + program.states[s].name, renamed[static_cast<std::size_t>(program.states[s].value)],
                  {});
  out.score = renamed[static_cast<std::size_t>(program.score)];
  return out;
}

// What a hash covers: names, docs and places gone, summaries called by their order.
Program without_names(Program program) {
  program.name = program.doc = "";
  std::map<std::string, std::string> names;
  for (Summary& summary : program.summaries)
    summary.name = names.emplace(summary.name, concat("n", names.size())).first->second;
  for (Node& node : program.nodes) {
    node.location = {};
    if (node.op->name == "summary") node.attributes["name"] = names.at(text_of(node.attributes, "name"));
  }
  return program;
}

TEST_P(RandomHashes, SeeMeaningNotWriting) {
  std::map<std::string, std::size_t> seen;  // hash → the canonical form
  std::mutex mutex;
  ThreadPool pool;
  pool.for_each(GetParam().count, [&](std::int64_t index, int) {
    Program program = make(first() + static_cast<int>(index));
    const std::string hash = canonical_hash(program);
    ASSERT_EQ(canonical_hash(rewritten(program)), hash)
        << print(program) << print(canonicalize(program)) << print(canonicalize(rewritten(program)));
    Program wider = program;
    wider.config.budget += 1;
    ASSERT_NE(canonical_hash(wider), hash);
    // Equal hashes: one canonical form. Two programs that score some page otherwise never have one.
    const std::string text = print(without_names(canonicalize(program)));
    std::lock_guard lock(mutex);
    const auto [entry, fresh] = seen.try_emplace(hash, std::hash<std::string>()(text));
    ASSERT_TRUE(fresh || entry->second == std::hash<std::string>()(text)) << "another program has the hash of\n"
                                                                          << text;
  });
  std::printf("%zu hashes of %d programs\n", seen.size(), GetParam().count);
  EXPECT_GT(seen.size(), static_cast<std::size_t>(GetParam().count) / 2);
}

// Bytes changed, cut, doubled: a reader answers with a program or with UserError.
TEST_P(RandomPrograms, ReadersSurviveAnyText) {
  std::mt19937_64 random(7 + static_cast<std::uint64_t>(first()));
  auto pick = [&](std::size_t count) { return std::uniform_int_distribution<std::size_t>(0, count - 1)(random); };
  static const std::string letters = "%()=,:;\"\\@[]{} \n0123456789-.eabckpqsummary\xc3\xff";
  int accepted = 0, refused = 0;
  for (int i = first(); i < end(); ++i) {
    Program program = RandomProgram(static_cast<std::uint64_t>(i % 200), 8).program();
    bool json = i % 2 == 0;
    std::string text = json ? to_json(program) : print(program);
    for (std::size_t change = 0, changes = 1 + pick(4); change < changes && !text.empty(); ++change) {
      std::size_t at = pick(text.size());
      switch (pick(4)) {
        case 0:
          text[at] = letters[pick(letters.size())];
          break;
        case 1:
          text.erase(at, 1 + pick(20));
          break;
        case 2:
          text.insert(at, text.substr(pick(text.size()), pick(40)));
          break;
        default:
          text.insert(at, 1, letters[pick(letters.size())]);
          break;
      }
    }
    try {
      Program read = json ? from_json(text) : parse(text);
      verify(read);
      canonicalize(read);
      ++accepted;
    } catch (const UserError& error) {
      EXPECT_FALSE(std::string(error.what()).empty());
      ++refused;
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace vortex::ir
