// What the report says of the plan beside what was measured, through the real binary.
#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/support/call_program.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

// The tiny model, on one rank of one thread.
std::string generate(const ScratchFolder& scratch, const std::string& more) {
  const std::filesystem::path source = std::getenv("LONGTAKE_SOURCE_DIR");
  return fmt::format(
      "generate --model '{}' -p hello --size 64x64 --frames 161 --steps 6 --seed 1 --block 4 "
      "--overlap 2 --threads 1 -q -o '{}' {}",
      (source / "tests/golden/data/models/t2v-tiny").string(), (scratch / "run").string(), more);
}

}  // namespace

TEST_CASE("the plan's bytes are those of the tensors, within 5 %") {
  for (const char* output : {"--latents-only", ""}) {
    const ScratchFolder scratch;
    const Outcome out = call(generate(scratch, output));
    REQUIRE_MESSAGE(out.code == 0, out.text);

    const auto report = read_json(scratch / "run" / "report.json");

    const double measured = report["per_rank"][0]["device_peak_bytes"],
                 predicted = report["predicted"]["per_rank"][0]["peak_bytes"];
    CHECK(predicted == doctest::Approx(measured).epsilon(0.05));
    CHECK(measured >= report["per_rank"][0]["weight_bytes"].get<double>());
    // Of the whole process, with its code and libraries.
    CHECK(report["per_rank"][0]["peak_bytes"].get<double>() > measured);
  }
}

TEST_CASE("report and trace show the prediction") {
  const ScratchFolder scratch;
  const Outcome out = call(generate(scratch, "--transport loopback --stages 2 --branches 1"));
  REQUIRE_MESSAGE(out.code == 0, out.text);

  const auto report = read_json(scratch / "run" / "report.json");
  CHECK(report["predicted"]["denoise"] > 0.0);
  CHECK(report["predicted"]["idle_share"] >= 0.0);
  CHECK(report["predicted"]["idle_share"] < 1.0);
  CHECK(report["predicted"]["per_rank"].size() == 2);
  std::map<std::string, int> events;
  std::map<std::pair<int, int>, std::string> name_of;
  const auto trace = read_json(scratch / "run" / "trace.json");
  for (const auto& event : trace["traceEvents"]) {
    const std::pair<int, int> row{event["pid"], event.value("tid", -1)};
    if (event["name"] == "thread_name") name_of[row] = event["args"]["name"];
    if (event["ph"] == "X") ++events[name_of.at(row)];
  }
  // 10 blocks of 6 steps on 2 stages: as many visits predicted as done, and decoding once a block.
  CHECK(events["compute, predicted"] >= 2 * 10 * 6);
  CHECK(events["compute"] >= events["compute, predicted"]);
  CHECK(events["messages, predicted"] >= 10 * 6);
  CHECK(events["store"] == 10);
  CHECK(events["decode"] == 10);
}

// Rates may be measured or given: they never change a bit.
TEST_CASE("the same latents with another profile") {
  const std::string two = "--transport loopback --stages 2 --branches 1 --latents-only ";
  std::vector<std::string> hashes;
  for (const char* hardware : {"", "--hardware h100"}) {
    const ScratchFolder scratch;
    const Outcome out = call(generate(scratch, two + hardware));
    REQUIRE_MESSAGE(out.code == 0, out.text);
    hashes.push_back(read_json(scratch / "run" / "report.json")["latents_sha256"]);
  }
  CHECK(hashes[0] == hashes[1]);
}

}  // namespace longtake
