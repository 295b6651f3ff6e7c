// `longtake plan` as a user calls it: figures of the uniform schedule, presets, refusals, JSON.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/call_program.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

std::string config(const std::string& name) {
  return fmt::format("'{}/configs/{}'", std::getenv("LONGTAKE_SOURCE_DIR"), name);
}

nlohmann::json plan(const std::string& arguments) {
  const Outcome out = call("plan --json " + arguments);
  REQUIRE_MESSAGE(out.code == 0, out.text);
  return nlohmann::json::parse(out.text);
}

// M blocks of B = c = 1 latent frame.
std::string uniform(int64_t ranks, int64_t steps, int64_t blocks, const std::string& rule,
                    int64_t stagger = 1) {
  return fmt::format(
      "--hardware uniform --ranks {} --steps {} --frames {} --block 1 --overlap 1 "
      "--context-rule {} --stagger {}",
      ranks, steps, 4 * blocks + 1, rule, stagger);
}

}  // namespace

TEST_CASE("idle slots of the uniform schedule") {
  for (const int64_t n : {2, 5, 16}) {
    const int64_t steps = 50, blocks = n + 1;
    for (const char* rule : {"aligned", "isolated", "dualparal"}) {
      CAPTURE(n);
      CAPTURE(rule);
      const auto found = plan(uniform(n, steps, blocks, rule));
      const bool strict = rule == std::string("dualparal");
      const int64_t idle = strict ? n * n - 1 : (n - 1) * (n - 1);
      CHECK(found["unit"] == "slots");
      CHECK(found["blocks"] == blocks);
      CHECK(found["stages"] == n);
      CHECK(found["makespan"] <= static_cast<double>(steps * blocks + idle));
      CHECK(found["makespan"] >= static_cast<double>(steps * blocks));
      for (const auto& rank : found["per_rank"]) {
        CHECK(rank["busy"] == static_cast<double>(steps * blocks));
        CHECK(rank["idle"] == found["makespan"].get<double>() - steps * blocks);
      }
      CHECK(found["idle"] == found["makespan"].get<double>() - steps * blocks);
    }
  }
}

TEST_CASE("stagger brings the first block forward") {
  const double makespan[] = {1663, 1733, 1873, 2082}, first[] = {1139, 720, 478, 444};
  const int64_t stagger[] = {1, 2, 4, 6};
  for (int i = 0; i < 4; ++i) {
    const auto found = plan(uniform(8, 50, 32, "dualparal", stagger[i]));
    CHECK(found["makespan"] <= makespan[i]);
    CHECK(found["first_block"] <= first[i]);
  }
}

TEST_CASE("the shipped configurations plan without weights") {
  for (const char* name : {"wan2.1-t2v-1.3b.yaml", "wan2.1-t2v-14b.yaml", "wan2.2-t2v-a14b.yaml",
                           "wan2.2-ti2v-5b.yaml"}) {
    CAPTURE(name);
    const auto found = plan(config(name) + " --ranks 2 --hardware h200 --frames 161");
    CHECK(found["unit"] == "s");
    CHECK(found["makespan"] > 1.0);
    CHECK(found["first_block"] < found["makespan"]);
    CHECK(found["frames_per_second"] > 0.0);
    CHECK(found["per_rank"].size() == 2);
    const double layers = found["per_rank"][1]["layers"][1];
    CHECK(layers == std::round(layers));
    double busy = 0;
    for (const auto& rank : found["per_rank"]) {
      CHECK(rank["peak_bytes"] > rank["weight_bytes"]);
      busy += rank["busy"].get<double>() + rank["idle"].get<double>();
    }
    CHECK(busy == doctest::Approx(2 * found["makespan"].get<double>()));
  }
}

// Two experts in memory, except for a video of one block, which uses one after the other.
TEST_CASE("weights of a rank") {
  const std::string a14b = config("wan2.2-t2v-a14b.yaml") + " --hardware h200 --branches 1";
  const double one = plan(a14b + " --frames 17")["per_rank"][0]["weight_bytes"],
               both = plan(a14b + " --frames 161")["per_rank"][0]["weight_bytes"],
               half = plan(a14b + " --frames 161 --ranks 2")["per_rank"][0]["weight_bytes"];

  CHECK(one == 2 * 14288491584.0);
  CHECK(both == 2 * one);
  CHECK(half < 0.53 * both);
}

TEST_CASE("an endless video has a steady rate and no end") {
  const std::string base = config("wan2.1-t2v-1.3b.yaml") + " --hardware h100 --ranks 4 ";
  const auto endless = plan(base + "--frames endless"), same = plan(base + "--endless");
  const auto further = plan(base + "--endless --sweeps 160");

  CHECK(endless["blocks"].is_null());
  CHECK(endless["makespan"] == same["makespan"]);
  CHECK(further["blocks_done"] > endless["blocks_done"]);
  CHECK(further["frames_per_second"].get<double>() ==
        doctest::Approx(endless["frames_per_second"].get<double>()).epsilon(0.05));
  CHECK(further["per_rank"][0]["peak_bytes"] == endless["per_rank"][0]["peak_bytes"]);
}

TEST_CASE("what does not fit the memory is said, with a way out") {
  const Outcome out = call("plan " + config("wan2.1-t2v-14b.yaml") +
                           " --size 1280x720 --frames 1025 --ranks 8 --hardware h100");
  CHECK(out.code == 0);
  CHECK(contains(out.text, "This does not fit: a rank needs"));
  CHECK(contains(out.text, "14 stages would"));
}

TEST_CASE("features in host memory are a way out where they are what does not fit") {
  const std::string base = "plan " + config("wan2.1-t2v-14b.yaml") +
                           " --size 1280x720 --frames 1025 --ranks 8 --hardware h100 ";
  const std::string way = "On GPUs --offload makes it fit";
  const std::string tight = call(base + "--ranks 2 --stages 2 --branches 1 --frames 161").text;

  CHECK(contains(call(base).text, way));
  CHECK(!contains(call(base + "--offload off").text, way));
  CHECK(!contains(call(base + "--device cpu").text, way));
  CHECK(contains(tight, "This does not fit"));
  CHECK(!contains(tight, way));
}

TEST_CASE("ranks that one video cannot use go to other videos, a deep pipeline is refused") {
  const std::string base = config("wan2.1-t2v-1.3b.yaml") + " --hardware h100 --frames 321 ";
  const auto many = plan(base + "--ranks 41");
  const Outcome deep = call("plan " + base + "--ranks 12 --stages 12 --branches 1");

  CHECK(many["videos"] == 2);
  CHECK(many["stages"].get<int>() * many["branches"].get<int>() == 20);
  CHECK(deep.code == 2);
  CHECK(contains(deep.text,
                 "12 stages would starve: only min(50 steps / stagger 1, 10 blocks) = "
                 "10 of them find work at a time; best use of these 12 ranks: 6 stages "
                 "x 2 branches"));
}

TEST_CASE("the grid of a small schedule, slot by slot") {
  const Outcome out = call("plan --grid " + uniform(3, 4, 3, "aligned"));
  CHECK(contains(out.text, "a column is a slot"));
  CHECK(contains(out.text, "\nr0    |"));
  const Outcome large = call("plan --grid " + uniform(8, 50, 32, "aligned"));
  CHECK(contains(large.text, "the first and the last 44 of"));
  for (size_t at = 0, end; (end = large.text.find('\n', at)) != std::string::npos; at = end + 1)
    if (large.text.substr(at, 1) == "r") CHECK(end - at <= 100);
}

TEST_CASE("instructions as text") {
  const Outcome out = call("plan --text --rank 1 " + uniform(2, 2, 3, "aligned"));
  CHECK(out.text.starts_with("admit b0\nrecv tokens b0 s0 from r0\nforward b0 s0 publish tail\n"));
  CHECK(call("plan --text --rank 2 " + uniform(2, 2, 3, "aligned")).code == 2);
}

TEST_CASE("attention workers: as many as asked for, or as many as win") {
  const std::string base = config("wan2.1-t2v-1.3b.yaml") + " --hardware h100 --frames 161 ";
  const auto none = plan(base + "--ranks 3"), two = plan(base + "--ranks 5 --workers 2"),
             few = plan(base + "--ranks 3 --workers auto"),
             many = plan(base + "--ranks 16 --workers auto");

  CHECK(none["workers"] == 0);
  CHECK(none["per_worker"].empty());
  CHECK(two["workers"] == 2);
  CHECK(two["reason"] == "asked for");
  CHECK(two["per_rank"].size() <= 3);
  CHECK(two["makespan"] < none["makespan"]);
  REQUIRE(two["per_worker"].size() == 2);
  for (const auto& worker : two["per_worker"]) {
    CHECK(worker["tasks"] > 0);
    CHECK(worker["bytes"] > 1e9);
    CHECK(worker["busy"] < two["makespan"]);
    CHECK(worker["hidden_share"] > 0.9);
  }
  CHECK(few["workers"] == 0);
  CHECK(few["makespan"] <= few["makespan_without_workers"].get<double>() * (1 + 1e-9));
  CHECK(contains(few["reason"].get<std::string>(), "would take"));
  // Five blocks keep ten ranks busy: the others have nothing better to do.
  CHECK(many["workers"] > 0);
  CHECK(many["makespan"] < 0.95 * many["makespan_without_workers"].get<double>());
  CHECK(contains(many["reason"].get<std::string>(), "less than"));
}

TEST_CASE("attention workers in the text, and what is refused") {
  const std::string base = "plan " + config("wan2.1-t2v-1.3b.yaml") + " --frames 161 ";
  const Outcome out = call(base + "--hardware h100 --workers 1");

  CHECK(out.code == 0);
  CHECK(contains(out.text, "1 rank: 1 stage x 1 branch, 1 attention worker\n"));
  CHECK(contains(out.text, "\n1 attention worker: asked for\nwithout workers, all devices"));
  CHECK(contains(out.text, "like the ranks"));
  CHECK(!contains(call(base + "--hardware h100").text, "attention worker"));
  CHECK(contains(call(base + "--hardware h100 --workers auto").text,
                 "0 attention workers: no device is left for a worker"));
  const Outcome few = call(base + "--hardware h100 --ranks 2 --workers 2");
  CHECK(few.code == 2);
  CHECK(contains(few.text, "2 of 2 devices as workers leave 0 for stages"));
  CHECK(call(base + "--hardware uniform --ranks 3 --workers 1").code == 2);
  CHECK(call(base + "--hardware uniform --ranks 3 --workers auto").code == 0);
  CHECK(call(base + "--hardware h100 --workers some").code == 2);
}

TEST_CASE("devices that can only be workers") {
  const ScratchFolder scratch;
  const auto file = scratch / "mixed.yaml";
  std::ofstream(file) << "name: mixed\nmemory_gb: 80\nmemory_gb_per_s: 3000\nlink_gb_per_s: 100\n"
                         "link_latency_us: 20\noperator_us: 4\n"
                         "bf16: {linear_gflops: 680e3, attention_gflops: 650e3, conv_gflops: 4e5}\n"
                         "workers:\n  - {name: a small card, count: 2, speed: 0.3, "
                         "link_gb_per_s: 24, link_latency_us: 40}\n";
  const std::string base = config("wan2.1-t2v-1.3b.yaml") + " --frames 161 --hardware '" +
                           file.string() + "' --workers auto ";
  const auto found = plan(base + "--ranks 4");
  const Outcome none = call("plan " + base + "--ranks 2");

  CHECK(found["stages"].get<int>() * found["branches"].get<int>() == 2);
  CHECK(found["workers"] == 2);
  CHECK(found["per_worker"][1]["kind"] == "a small card");
  CHECK(found["makespan"] < found["makespan_without_workers"]);
  CHECK(none.code == 2);
  CHECK(contains(none.text, "2 of 2 devices can only be workers"));
}

TEST_CASE("bad input of plan") {
  CHECK(contains(call("plan --hardware h1000 " + config("wan2.1-t2v-1.3b.yaml")).text,
                 "the nearest is h100"));
  CHECK(call("plan --hardware h100").code == 2);
  CHECK(contains(call("plan --hardware h100").text, "no model: give `model` or `model_sizes`"));
  CHECK(call("plan --hardware h100 --model /nowhere").code == 66);
  CHECK(call("plan --ranks 0 --hardware uniform").code == 2);
  CHECK(call("plan --hardware uniform --frames forever").code == 2);
  CHECK(contains(call("plan --hrdware x").text, "the nearest is --hardware"));
}

}  // namespace longtake
