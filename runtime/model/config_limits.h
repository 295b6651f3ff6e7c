// What a configuration may say before it is called absurd: far above any known model, and low
// enough that no product of sizes overflows.
#pragma once

#include <cstdint>

namespace longtake {

constexpr int64_t kMostLayers = 1024;
constexpr int64_t kMostHeads = 1024;
constexpr int64_t kMostHeadDim = 4096;
constexpr int64_t kMostChannels = 65536;
constexpr int64_t kMostWidth = 1 << 20;  // of a linear layer
constexpr int64_t kMostVocabulary = 1 << 24;
constexpr int64_t kMostTokens = 1 << 16;
constexpr int64_t kMostLevels = 8;  // of the VAE: the spatial factor stays below 256

}  // namespace longtake
