#include "launch/bench/normal_numbers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

namespace longtake {

namespace {

constexpr size_t kQuantiles = 65536;

// Phi(z) = (i + 1/2) / 65536, by bisection.
float quantile(size_t i) {
  const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(kQuantiles);
  double low = -6, high = 6;
  for (int step = 0; step < 40; ++step) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < share ? low : high) = middle;
  }
  return static_cast<float>(low);
}

const std::array<float, kQuantiles>& quantiles() {
  static const auto table = [] {
    auto t = std::make_unique<std::array<float, kQuantiles>>();
    for (size_t i = 0; i < kQuantiles; ++i) (*t)[i] = quantile(i);
    return t;
  }();
  return *table;
}

// splitmix64 (Steele, Lea, Flood 2014)
uint64_t mixed(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

void fill_normal(std::span<float> out, uint64_t seed, uint64_t index, float deviation, float mean) {
  const auto& table = quantiles();
  const uint64_t base = mixed(seed);
  for (float& x : out) {
    const uint64_t bits = mixed(base + index / 4) >> (16 * (index % 4));
    x = table[bits & 0xffffu] * deviation + mean;
    ++index;
  }
}

OwnedTensor normal_tensor(DType dtype, Shape shape, uint64_t seed) {
  OwnedTensor x(dtype, shape);
  const auto n = static_cast<size_t>(x.numel());
  if (dtype == DType::f32) {
    fill_normal({x.as<float>(), n}, seed, 0, 1, 0);
    return x;
  }
  std::array<float, 4096> part;
  for (size_t at = 0; at < n; at += part.size()) {
    const size_t count = std::min(part.size(), n - at);
    fill_normal({part.data(), count}, seed, at, 1, 0);
    for (size_t i = 0; i < count; ++i) x.as<bf16>()[at + i] = to_bf16(part[i]);
  }
  return x;
}

}  // namespace longtake
