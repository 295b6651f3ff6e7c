// Whole plans as text, one instruction per line: a change of the schedule is a readable diff.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "parallel/plan/check.h"
#include "tests/plan/plan_specs.h"
#include "tests/support/golden_file.h"

using namespace longtake;
using longtake::testing::go_on;
using longtake::testing::golden_folder;
using longtake::testing::plan_spec;

namespace {

std::vector<std::string> lines_of(const PlanSpec& spec) {
  std::vector<std::string> out;
  const auto plans = make_plan(spec);
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    out.push_back(fmt::format("# rank {}", rank));
    for (const Instruction& instruction : plans[rank]) out.push_back(to_text(instruction));
  }
  return out;
}

std::vector<std::string> read_lines(const std::filesystem::path& path) {
  std::ifstream in(path);
  REQUIRE_MESSAGE(in.good(), path.string());
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

}  // namespace

TEST_CASE("a plan of a longer video as it is written down") {
  PlanSpec spec = plan_spec({2, 1}, ContextRule::aligned, 2, 1, 2);
  go_on(spec, 3, 6);
  const std::vector<std::string> first = {
      "# rank 0",
      "recall b2 v2",
      "admit b3",
      "embed b3 s0 prefix b2 v2",
      "forward b3 s0 prefix tokens publish tail",
      "send tokens b3 s0 to r1",
      "release latent b3 v0",
      "admit b4",
      "embed b4 s0",
      "forward b4 s0 prefix tail(b3 s0) publish head",
      "send tokens b4 s0 to r1",
      "release tail(b3 s0)",
      "release latent b4 v0",
      "recv latent b3 v1 from r1",
      "embed b3 s1 prefix b2 v2",
      "forward b3 s1 prefix tokens suffix head(b4 s0) publish tail",
      "send tokens b3 s1 to r1",
      "release head(b4 s0)",
      "release latent b3 v1",
      "release latent b2 v2"};

  const auto found = lines_of(spec);

  REQUIRE(found.size() > first.size());
  for (size_t i = 0; i < first.size(); ++i) CHECK(found[i] == first[i]);
  for (const std::string& line : found)
    if (!line.starts_with("#")) CHECK(to_text(parse_instruction(line)) == line);
}

TEST_CASE("plans for 1, 2, 3, 4 and 8 ranks are as written down") {
  struct Row {
    Mesh mesh;
    ContextRule rule;
    int64_t steps, stagger, blocks;
  };
  for (const Row& row :
       {Row{{1, 1}, ContextRule::aligned, 3, 1, 3}, Row{{2, 1}, ContextRule::dualparal, 4, 2, 3},
        Row{{3, 1}, ContextRule::causal, 3, 1, 3}, Row{{2, 2}, ContextRule::dualparal, 3, 1, 3},
        Row{{4, 2}, ContextRule::aligned, 4, 1, 4}}) {
    const PlanSpec spec = plan_spec(row.mesh, row.rule, row.steps, row.stagger, row.blocks);
    const int64_t ranks = row.mesh.ranks();
    CAPTURE(ranks);
    CHECK_NOTHROW(check_spec(spec, ranks));

    const auto expected = read_lines(golden_folder() / "plan" / fmt::format("{}.txt", ranks));
    const auto found = lines_of(spec);

    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      CAPTURE(i);
      CHECK(found[i] == expected[i]);
    }
  }
}
