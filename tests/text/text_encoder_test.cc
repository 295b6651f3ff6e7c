#include "runtime/model/text_encoder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"
#include "tests/support/golden_file.h"
#include "tests/support/test_stream.h"

using namespace longtake;
using namespace longtake::testing;
namespace fs = std::filesystem;

namespace {

struct Golden {
  fs::path folder = golden_folder() / "umt5";
  nlohmann::json json;
  GoldenFile expected{folder / "expected.safetensors"};
  fs::path model;
  TextEncoderConfig config;
  Weights weights;

  Golden()
      : json([&] {
          std::ifstream file(folder / "case.json");
          return nlohmann::json::parse(file);
        }()),
        model(golden_folder() / json.at("model").get<std::string>()),
        config(read_text_encoder_config(model)),
        weights(model, WeightsOf::text_encoder) {}

  std::vector<int32_t> ids(const std::string& prompt) const {
    const OwnedTensor ids = expected.read(prompt + ".ids");
    return {ids.as<int32_t>(), ids.as<int32_t>() + ids.numel()};
  }
};

double relative_l2(const OwnedTensor& x, const OwnedTensor& expected) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < expected.numel(); ++i) {
    difference += std::pow(double{x.as<float>()[i]} - expected.as<float>()[i], 2);
    size += std::pow(double{expected.as<float>()[i]}, 2);
  }
  return std::sqrt(difference / size);
}

// Of a prompt that fills all 512 tokens the file holds the first 32 rows and the last 32.
double worst_difference(const OwnedTensor& x, const OwnedTensor& expected) {
  const int64_t rows = expected.dim(0), columns = expected.dim(1);
  const int64_t left_out = x.dim(0) - rows;
  REQUIRE(left_out >= 0);
  REQUIRE(x.dim(1) == columns);
  double worst = 0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t row = left_out > 0 && i >= rows / 2 ? i + left_out : i;
      const double difference =
          double{x.as<float>()[row * columns + j]} - expected.as<float>()[i * columns + j];
      worst = std::max(worst, std::abs(difference));
    }
  return worst;
}

}  // namespace

TEST_CASE("relative buckets (wan.md 4.3)") {
  const auto bucket = [](int64_t distance) { return relative_bucket(distance, 32, 128); };
  const int64_t begin[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91, 2000};
  for (int64_t b = 0; b < 16; ++b)
    for (int64_t r = begin[b]; r < begin[b + 1]; ++r) {
      REQUIRE(bucket(-r) == b);
      if (r > 0) REQUIRE(bucket(r) == b + 16);
    }
}

TEST_CASE("golden: embeddings in f32") {
  const Golden golden;
  const double limit = golden.json.at("tolerance").at("max_abs");
  const TextEncoder encoder(golden.weights, golden.config, DType::f32, test_stream());
  int checked = 0;
  for (const auto& prompt : golden.json.at("prompts")) {
    const auto name = prompt.at("name").get<std::string>();
    CAPTURE(name);
    const OwnedTensor expected = golden.expected.read(name + ".embedding");

    const OwnedTensor got = encoder.encode(golden.ids(name), test_stream());

    CHECK(worst_difference(got, expected) <= limit);
    ++checked;
  }
  CHECK(checked >= 15);
}

TEST_CASE("golden: embeddings in bf16 stay within 2e-2") {
  const Golden golden;
  const TextEncoder encoder(golden.weights, golden.config, DType::bf16, test_stream());
  for (const char* name : {"plain", "html", "empty"}) {
    const OwnedTensor expected = golden.expected.read(std::string(name) + ".embedding");

    const OwnedTensor got = encoder.encode(golden.ids(name), test_stream());

    CHECK(relative_l2(got, expected) <= 2e-2);
  }
}

TEST_CASE("embeddings do not depend on the number of threads") {
  const Golden golden;
  const TextEncoder encoder(golden.weights, golden.config, DType::f32, test_stream(3));

  const OwnedTensor a = encoder.encode(golden.ids("plain"), test_stream(1));
  const OwnedTensor b = encoder.encode(golden.ids("plain"), test_stream(3));

  CHECK(std::equal(a.as<float>(), a.as<float>() + a.numel(), b.as<float>()));
}

TEST_CASE("ids beyond the table say that the tokenizer is another model's") {
  const Golden golden;
  const TextEncoder encoder(golden.weights, golden.config, DType::f32, test_stream());
  const int32_t ids[] = {5, 640};

  const Error e = error_of([&] { encoder.encode(ids, test_stream()); });

  CHECK(e.code() == ExitCode::bad_data);
  CHECK(mentions(e, "token 640, but the text encoder knows 640"));
}
