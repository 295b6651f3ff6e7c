// The bench framework: timing, and the JSON that other tools read.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/base/error.h"
#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"
#include "launch/commands.h"
#include "tests/support/scratch_folder.h"

namespace longtake::testing {
namespace {

// What a bench of a few microseconds writes as JSON.
template <class Change>
nlohmann::json rows_of(void (*bench)(const BenchSetup&), Change change) {
  const ScratchFolder folder;
  BenchSetup setup;
  setup.dim = 48;
  setup.heads = 2;
  setup.head_dim = 24;
  setup.ffn = 96;
  setup.tokens = {20};
  setup.repeat = 2;
  setup.json = folder / "rows.json";
  change(setup);
  bench(setup);
  nlohmann::json j;
  std::ifstream(setup.json) >> j;
  return j;
}

}  // namespace

TEST_CASE("time_work: seconds of one call, share of the peak it was given") {
  const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(6)); };

  const BenchTiming t = time_work(3, 6.0, nap, [] { return 1e4; });

  CHECK(t.min_s >= 6e-3);
  CHECK(t.min_s <= t.median_s);
  CHECK(t.median_s <= t.max_s);
  // 6 units in at least 6 ms are at most 1000 a second, a tenth of the peak.
  CHECK(t.share <= 0.1);
  CHECK(t.share > 0.0);
  CHECK(t.cpu_s < 3e-3);  // it slept
}

TEST_CASE("bench attention writes a row for each number of tokens") {
  const auto j = rows_of(bench_attention, [](BenchSetup& setup) {
    setup.tokens = {16, 130};
    setup.kv_tokens = 40;
    setup.head_dim = 24;
  });

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

TEST_CASE("bench gemm compares every product of a block with the reference") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto j = rows_of(bench_gemm, [&](BenchSetup& setup) { setup.dtype = dtype; });

    REQUIRE(j["rows"].size() == 4);
    CHECK(j["rows"][2]["out"] == 96);
    for (const auto& row : j["rows"]) CHECK(row["error"] < (dtype == DType::f32 ? 1e-6 : 4e-3));
    CHECK(j["rows"][0]["error"] > 0.0);
  }
}

TEST_CASE("bench block times each part and the whole") {
  const auto j = rows_of(bench_block, [](BenchSetup&) {});

  REQUIRE(j["rows"].size() == 4);
  CHECK(j["rows"][3]["part"] == "block");
  double parts = 0;
  for (int i = 0; i < 3; ++i)
    parts += j["rows"][i]["rate"].get<double>() * j["rows"][i]["seconds_median"].get<double>();
  const double whole =
      j["rows"][3]["rate"].get<double>() * j["rows"][3]["seconds_median"].get<double>();
  CHECK(whole == doctest::Approx(parts).epsilon(1e-9));  // operations
}

TEST_CASE("bench stage counts its layers, both branches and the neighbours' keys") {
  const auto flops = [](int64_t layers, int64_t overlap) {
    const auto j = rows_of(bench_stage, [&](BenchSetup& setup) {
      setup.first_layer = 1;
      setup.last_layer = 1 + layers;
      setup.block = 4;
      setup.overlap = overlap;
    });
    REQUIRE(j["rows"].size() == 1);
    const auto& row = j["rows"][0];
    CHECK(row["layers"] == "1:" + std::to_string(1 + layers));
    CHECK(row["context"] == 2 * overlap * 5);
    CHECK(row["branches"] == 2);
    CHECK(row["peak_share"] > 0.0);
    return row["rate"].get<double>() * row["seconds_median"].get<double>() * 1e9;
  };

  const double one = flops(1, 2);

  CHECK(flops(2, 2) == doctest::Approx(2 * one).epsilon(1e-9));
  // 20 more keys for 20 queries, products with K and V, in both branches.
  CHECK(flops(1, 4) - one == doctest::Approx(2 * 4.0 * 20 * 20 * 48).epsilon(1e-6));
}

TEST_CASE("bench channel measures sizes from 8 bytes to 64 MiB between threads") {
  const auto j = rows_of(bench_channel, [](BenchSetup&) {});

  REQUIRE(j["rows"].size() == 9);
  for (size_t i = 0; i < 8; ++i) {
    const auto& row = j["rows"][i];
    CHECK(row["channel"] == "loopback");
    CHECK(row["bytes"] == int64_t{8} << 3 * i);
    CHECK(row["one way us"].get<double>() ==
          doctest::Approx(1e6 * row["seconds_median"].get<double>()));
    CHECK(row["unit"] == "GB/s");
    CHECK(row["rate"] > 0.0);
  }
  // Two copies of 64 MiB take longer than those of 8 bytes.
  CHECK(j["rows"][8]["bytes"] == int64_t{64} << 20);
  CHECK(j["rows"][8]["seconds_min"] > j["rows"][0]["seconds_min"]);
}

TEST_CASE("bench store commits blocks of 1, 8 and 64 MiB where it is told to") {
  const ScratchFolder place;
  const auto j = rows_of(bench_store, [&](BenchSetup& setup) { setup.folder = place.path(); });

  REQUIRE(j["rows"].size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    const auto& row = j["rows"][i];
    CHECK(row["MiB"] == int64_t{1} << 3 * i);
    CHECK(row["commits"] >= 2);
    CHECK(row["p50 ms"].get<double>() <= row["p99 ms"].get<double>());
    CHECK(row["p99 ms"].get<double>() <= doctest::Approx(1e3 * row["seconds_max"].get<double>()));
    CHECK(row["rate"].get<double>() * row["seconds_median"].get<double>() ==
          doctest::Approx(1.048576 * row["MiB"].get<double>()));
  }
  CHECK(std::filesystem::is_empty(place.path()));
  CHECK_THROWS_AS(rows_of(bench_store, [](BenchSetup& setup) { setup.folder = "/nowhere"; }),
                  Error);
}

TEST_CASE("bench text and bench weights run on random weights") {
  CHECK(rows_of(bench_text, [](BenchSetup&) {})["rows"].size() == 1);
  const auto j = rows_of(bench_weights, [](BenchSetup&) {});
  REQUIRE(j["rows"].size() == 2);
  CHECK(j["rows"][1]["file MB"] == j["rows"][0]["file MB"]);
  CHECK(j["rows"][1]["unit"] == "GB/s");
}

TEST_CASE("longtake bench finds a bench by its name") {
  const ScratchFolder folder;
  BenchOptions options;
  options.name = "gemm";
  options.dim = options.ffn = options.tokens = 16;
  options.threads = 3;
  options.repeat = 1;
  options.dtype = Precision::bf16;
  options.json = folder / "b.json";

  CHECK(run_bench(options) == 0);

  nlohmann::json j;
  std::ifstream(options.json) >> j;
  CHECK(j["name"] == "gemm");
  CHECK(j["machine"]["threads"] == 3);
  CHECK(j["rows"][0]["dtype"] == "bf16");
}

TEST_CASE("normal numbers have the mean, deviation and tails they should") {
  std::vector<float> x(1'000'000);
  fill_normal(x, 7, 0, 2.0f, 1.0f);

  double mean = 0, square = 0, beyond = 0;
  for (const float e : x) {
    mean += e * 1e-6;
    square += (e - 1.0) * (e - 1.0) * 1e-6;
    beyond += std::abs(e - 1.0) > 4.0 ? 1e-6 : 0;
  }
  // Five standard errors of a million: 2 / 1000, 4 sqrt(2) / 1000, sqrt(0.0455) / 1000.
  CHECK(std::abs(mean - 1.0) < 0.010);
  CHECK(std::abs(square - 4.0) < 0.029);
  CHECK(std::abs(beyond - 0.0455) < 0.00107);
  std::vector<float> part(100);
  fill_normal(part, 7, 123, 2.0f, 1.0f);
  CHECK(std::equal(part.begin(), part.end(), x.begin() + 123));
}

TEST_CASE("a bench whose JSON cannot be written says where") {
  BenchSetup setup;
  setup.tokens = {1};
  setup.heads = 1;
  setup.head_dim = 4;
  setup.repeat = 1;
  setup.json = "/nonexistent/bench.json";

  try {
    bench_attention(setup);
    FAIL("nothing thrown");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::cannot_create);
    CHECK(std::string(error.what()).find("/nonexistent/bench.json") != std::string::npos);
  }
}

}  // namespace longtake::testing
