// The bench framework: timing, and the JSON that other tools read.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/base/error.h"
#include "launch/bench/bench.h"

namespace longtake::testing {

TEST_CASE("time_work: seconds of one call, share of the peak it was given") {
  const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(6)); };

  const BenchTiming t = time_work(3, 6.0, nap, [] { return 1e4; });

  CHECK(t.min_s >= 6e-3);
  CHECK(t.min_s <= t.median_s);
  CHECK(t.median_s <= t.max_s);
  // 6 units in at least 6 ms are at most 1000 a second, a tenth of the peak.
  CHECK(t.share <= 0.1);
  CHECK(t.share > 0.0);
}

TEST_CASE("bench_attention writes a row for each number of tokens") {
  const auto path = std::filesystem::temp_directory_path() / "longtake_bench_test.json";
  BenchOptions options;
  options.tokens = {16, 130};
  options.kv_tokens = 40;
  options.heads = 2;
  options.head_dim = 24;
  options.repeat = 2;
  options.json = path.string();

  bench_attention(options);

  nlohmann::json j;
  std::ifstream(path) >> j;
  std::filesystem::remove(path);
  CHECK(j["name"] == "attention");
  CHECK(j["machine"]["threads"] == 1);
  REQUIRE(j["rows"].size() == 2);
  CHECK(j["rows"][1]["tokens"] == 130);
  CHECK(j["rows"][1]["kv_tokens"] == 40);
  CHECK(j["rows"][1]["unit"] == "GFLOP/s");
  CHECK(j["rows"][1]["seconds_median"] > 0.0);
  CHECK(j["rows"][1]["peak_share"] > 0.0);
  CHECK(j["rows"][1]["error"] < 5e-6);
}

TEST_CASE("a bench whose JSON cannot be written says where") {
  BenchOptions options;
  options.tokens = {1};
  options.heads = 1;
  options.head_dim = 4;
  options.repeat = 1;
  options.json = "/nonexistent/bench.json";

  try {
    bench_attention(options);
    FAIL("nothing thrown");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::cannot_create);
    CHECK(std::string(error.what()).find("/nonexistent/bench.json") != std::string::npos);
  }
}

}  // namespace longtake::testing
