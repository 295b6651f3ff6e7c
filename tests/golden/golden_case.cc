#include "tests/golden/golden_case.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <fstream>

namespace longtake::testing {

namespace fs = std::filesystem;

GoldenCase::GoldenCase(const fs::path& folder) : folder_(folder) {
  std::ifstream file(folder / "case.json");
  json_ = nlohmann::json::parse(file);
}

std::string GoldenCase::name() const {
  return fs::relative(folder_, golden_folder()).string();
}

fs::path GoldenCase::model(const std::string& key) const {
  return golden_folder() / json_.at(key).get<std::string>();
}

OwnedTensor GoldenCase::expected(const std::string& array) const {
  return GoldenFile(folder_ / "expected.safetensors").read(array);
}

OwnedTensor GoldenCase::input(const std::string& array) const {
  return GoldenFile(folder_ / "inputs.safetensors").read(array);
}

bool GoldenCase::has_expected(const std::string& array) const {
  return json_.at("files").at("expected.safetensors").contains(array);
}

void GoldenCase::note(const std::string& what, double value, double limit) {
  ++compared_;
  const double share = value / limit;
  if (!(share <= worst_share_)) {
    worst_share_ = share;
    worst_ = what;
  }
  CAPTURE(what);
  CHECK(value <= limit);
}

void GoldenCase::compare(const std::string& what, ConstTensor result, ConstTensor expected,
                         double limit) {
  const OwnedTensor host = to_host(result, test_stream());
  const ConstTensor got = host;
  REQUIRE_MESSAGE(got.shape == expected.shape, what, ": ", got.shape.text(), " ",
                  expected.shape.text());
  double worst = 0;
  for (int64_t i = 0; i < got.numel(); ++i) {
    const double difference = std::abs(double{got.as<float>()[i]} - expected.as<float>()[i]);
    if (!(difference <= worst)) worst = difference;  // also takes a NaN
  }
  note(what, worst, limit);
}

void GoldenCase::compare_relative(const std::string& what, ConstTensor result, ConstTensor expected,
                                  double limit) {
  const OwnedTensor host = to_host(result, test_stream());
  const ConstTensor got = host;
  REQUIRE_MESSAGE(got.shape == expected.shape, what, ": ", got.shape.text(), " ",
                  expected.shape.text());
  double difference = 0, size = 0;
  for (int64_t i = 0; i < got.numel(); ++i) {
    const double e = expected.as<float>()[i], d = got.as<float>()[i] - e;
    difference += d * d;
    size += e * e;
  }
  note(what, std::sqrt(difference / size), limit);
}

void GoldenCase::print() const {
  std::printf("%-20s %3d arrays, closest to its limit: %s at %.3f of it\n", name().c_str(),
              compared_, worst_.c_str(), worst_share_);
  CHECK(compared_ > 0);
}

}  // namespace longtake::testing
