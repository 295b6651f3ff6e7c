// Blocks of a video, meshes that are worth running, and refusals.
#include <doctest/doctest.h>

#include "parallel/plan/plan.h"
#include "tests/support/expect_error.h"

using namespace longtake;
using longtake::testing::error_of;
using longtake::testing::mentions;

namespace {

PlanSpec spec_of(Mesh mesh, int64_t steps, int64_t stagger, std::optional<int64_t> frames) {
  PlanSpec spec;
  spec.mesh = mesh;
  spec.layout = {8, 4, frames};
  spec.steps = steps;
  spec.stagger = stagger;
  return spec;
}

}  // namespace

TEST_CASE("blocks cover the video once") {
  for (int64_t block = 1; block <= 5; ++block)
    for (int64_t context = 0; context <= block; ++context)
      for (int64_t total = 1; total <= 40; ++total) {
        const BlockLayout layout{block, context, total};
        const int64_t blocks = layout.blocks().value();

        int64_t next = 0;
        for (int64_t b = 0; b < blocks; ++b) {
          CHECK(layout.first_frame({b}) == next);
          const int64_t full = block + (b == 0 ? context : 0);
          CHECK(layout.frames({b}) >= 1);
          CHECK(layout.frames({b}) <= full);
          if (b + 1 < blocks) CHECK(layout.frames({b}) == full);
          next += layout.frames({b});
        }
        CHECK(next == total);
        CHECK_THROWS_AS(layout.frames({blocks}), Error);
      }
  const BlockLayout endless{8, 4, {}};
  CHECK_FALSE(endless.blocks().has_value());
  CHECK(endless.first_frame({1000}) == 8004);
  CHECK(endless.frames({1000}) == 8);
}

TEST_CASE("blocks of a longer video cover what comes after the finished one") {
  for (int64_t block = 1; block <= 4; ++block)
    for (int64_t context = 0; context <= block; ++context)
      for (int64_t finished = 3; finished <= 12; ++finished)
        for (int64_t total = finished + 1; total <= finished + 9; ++total) {
          const BlockLayout layout{block, context, total, 3, finished};
          const int64_t blocks = layout.blocks().value();
          CHECK(layout.new_blocks().value() == blocks - 3);

          int64_t next = finished;
          for (int64_t b = 3; b < blocks; ++b) {
            CHECK(layout.first_frame({b}) == next);
            CHECK(layout.frames({b}) >= 1);
            CHECK(layout.frames({b}) <= block);
            if (b + 1 < blocks) CHECK(layout.frames({b}) == block);
            next += layout.frames({b});
          }
          CHECK(next == total);
          CHECK(layout.frames({2}) == std::min(context, finished));
          CHECK(layout.first_frame({2}) + layout.frames({2}) == finished);
          CHECK_THROWS_AS(layout.frames({1}), Error);
          CHECK_THROWS_AS(layout.frames({blocks}), Error);
        }
}

TEST_CASE("a video cannot go on from more than it has") {
  PlanSpec spec = spec_of({1, 1}, 5, 1, 40);
  for (const auto& [blocks, frames] :
       {std::pair<int64_t, int64_t>{3, 40}, {3, 41}, {0, 4}, {4, 3}, {4, 0}, {-1, 9}}) {
    spec.layout.first_block = blocks;
    spec.layout.finished_frames = frames;
    const Error error = error_of([&] { check_spec(spec); });
    CHECK(error.code() == ExitCode::usage);
    CHECK(mentions(error, fmt::format("{} finished blocks of {} latent frames", blocks, frames)));
  }
  spec.layout.first_block = 3, spec.layout.finished_frames = 39;
  CHECK_NOTHROW(check_spec(spec));
}

TEST_CASE("no context frames means isolated blocks") {
  PlanSpec spec = spec_of({1, 1}, 5, 1, 40);
  spec.rule = ContextRule::dualparal;
  CHECK(spec.effective_rule() == ContextRule::dualparal);
  spec.layout.context_frames = 0;
  CHECK(spec.effective_rule() == ContextRule::isolated);
}

TEST_CASE("rules have names") {
  for (const ContextRule rule :
       {ContextRule::dualparal, ContextRule::aligned, ContextRule::causal, ContextRule::isolated})
    CHECK(parse_context_rule(name(rule)) == rule);
  CHECK_FALSE(parse_context_rule("Aligned").has_value());
}

TEST_CASE("the best mesh uses branches first and never starves") {
  const std::optional<int64_t> endless;
  CHECK(best_mesh(1, 50, 1, 32, true, true) == Mesh{1, 1});
  CHECK(best_mesh(2, 50, 1, 32, true, true) == Mesh{1, 2});
  CHECK(best_mesh(3, 50, 1, 32, true, true) == Mesh{3, 1});
  CHECK(best_mesh(8, 50, 1, 32, true, true) == Mesh{4, 2});
  CHECK(best_mesh(8, 50, 1, 32, true, false) == Mesh{8, 1});
  CHECK(best_mesh(8, 50, 1, 32, false, true) == Mesh{8, 1});
  CHECK(best_mesh(8, 50, 10, 32, true, true) == Mesh{4, 2});
  CHECK(best_mesh(8, 50, 10, 32, true, false) == Mesh{5, 1});
  CHECK(best_mesh(9, 50, 10, 32, true, true) == Mesh{4, 2});
  CHECK(best_mesh(16, 50, 1, 5, true, true) == Mesh{5, 2});
  CHECK(best_mesh(3, 50, 1, 1, true, true) == Mesh{1, 2});
  CHECK(best_mesh(8, 4, 5, endless, true, true) == Mesh{1, 2});
  CHECK(best_mesh(512, 50, 1, endless, true, true) == Mesh{50, 2});
  for (int64_t ranks = 1; ranks <= 40; ++ranks)
    for (int64_t stagger : {1, 2, 7, 60})
      for (bool fits : {false, true}) {
        PlanSpec spec = spec_of(best_mesh(ranks, 50, stagger, 12, true, fits), 50, stagger, 100);
        CHECK(spec.layout.blocks() == 12);
        CHECK_NOTHROW(check_spec(spec));
        CHECK(spec.mesh.ranks() <= ranks);
      }
}

TEST_CASE("a mesh that starves is refused with the reason and a better one") {
  const PlanSpec spec = spec_of({8, 1}, 50, 10, 1025);

  const Error error = error_of([&] { check_spec(spec); });

  CHECK(error.code() == ExitCode::usage);
  CHECK(mentions(error, "8 stages would starve"));
  CHECK(mentions(error, "min(50 steps / stagger 10, 128 blocks) = 5"));
  CHECK(mentions(error, "best use of these 8 ranks: 4 stages x 2 branches"));
  CHECK(mentions(error, "stagger 1 allows 50"));
  CHECK_NOTHROW(check_spec(spec_of({8, 1}, 50, 6, 1025)));
  CHECK_THROWS_AS(check_spec(spec_of({8, 1}, 50, 7, 1025)), Error);
  CHECK_THROWS_AS(check_spec(spec_of({3, 1}, 50, 1, 12)), Error);
  CHECK_NOTHROW(check_spec(spec_of({1, 1}, 1, 1, 1)));
  CHECK_NOTHROW(check_spec(spec_of({1, 2}, 2, 5, 100)));
  CHECK_THROWS_AS(check_spec(spec_of({64, 1}, 50, 1, {})), Error);
  CHECK_NOTHROW(check_ranges(spec));
}

TEST_CASE("all problems are reported together") {
  PlanSpec spec = spec_of({0, 3}, 0, 0, 0);
  spec.layout.block_frames = 4;
  spec.layout.context_frames = 5;

  const Error error = error_of([&] { PlanMaker maker(spec); });

  CHECK(error.code() == ExitCode::usage);
  for (const char* words :
       {"stages must be >= 1, found 0", "steps must be >= 1", "stagger must be >= 1",
        "latent frames must be >= 1", "(overlap) must be <= 4 frames per block, found 5",
        "branches must be 1 or 2, found 3"})
    CHECK(mentions(error, words));
}

TEST_CASE("branches need guidance, and a job has the ranks of its mesh") {
  PlanSpec spec = spec_of({2, 2}, 50, 1, 100);
  CHECK_NOTHROW(check_spec(spec, 4));
  CHECK(mentions(error_of([&] { check_spec(spec, 6); }),
                 "the mesh of 2 stages x 2 branches needs 4 ranks, found 6"));
  spec.guided = false;
  CHECK(mentions(error_of([&] { check_spec(spec); }), "2 branches need guidance"));
}

TEST_CASE("an unbounded video is made sweep by sweep only") {
  CHECK(error_of([] { make_plan(spec_of({1, 1}, 4, 1, {})); }).code() == ExitCode::usage);
}
