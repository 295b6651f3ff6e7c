#include "launch/bench/random_weights.h"

#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/base/error.h"
#include "launch/bench/normal_numbers.h"

namespace longtake {

namespace {

constexpr float kBiasDeviation = 0.02f;

void add_linear(std::vector<RandomTensor>& to, const std::string& name, const Shape& weight,
                bool bias = true) {
  const auto in = static_cast<float>(weight.inner_numel());
  to.push_back({name + ".weight", weight, 1 / std::sqrt(in)});
  if (bias) to.push_back({name + ".bias", {weight[0]}, kBiasDeviation});
}

void add_norm(std::vector<RandomTensor>& to, const std::string& name, int64_t dim) {
  to.push_back({name, {dim}, 0.1f, 1.0f});
}

void add_attention(std::vector<RandomTensor>& to, const std::string& prefix, int64_t d) {
  for (const char* name : {"to_q", "to_k", "to_v", "to_out.0"})
    add_linear(to, prefix + name, {d, d});
  add_norm(to, prefix + "norm_q.weight", d);
  add_norm(to, prefix + "norm_k.weight", d);
}

void write_values(std::ofstream& file, const RandomTensor& tensor, DType dtype, uint64_t seed) {
  std::array<float, 16384> values;
  std::array<bf16, 16384> narrow;
  const auto n = static_cast<uint64_t>(tensor.shape.numel());
  for (uint64_t at = 0; at < n; at += values.size()) {
    const size_t count = std::min<uint64_t>(values.size(), n - at);
    fill_normal({values.data(), count}, seed, at, tensor.deviation, tensor.mean);
    const void* data = values.data();
    if (dtype == DType::bf16) {
      std::transform(values.begin(), values.begin() + static_cast<long>(count), narrow.begin(),
                     to_bf16);
      data = narrow.data();
    }
    file.write(static_cast<const char*>(data),
               static_cast<std::streamsize>(count * size_bytes(dtype)));
  }
}

}  // namespace

std::vector<RandomTensor> transformer_tensors(const TransformerConfig& c) {
  const int64_t d = c.dim(), patch = c.patch[0] * c.patch[1] * c.patch[2];
  const float table = 1 / std::sqrt(static_cast<float>(d));
  std::vector<RandomTensor> t;
  const std::string embedder = "condition_embedder.";
  add_linear(t, embedder + "time_embedder.linear_1", {d, c.freq_dim});
  add_linear(t, embedder + "time_embedder.linear_2", {d, d});
  add_linear(t, embedder + "time_proj", {6 * d, d});
  add_linear(t, embedder + "text_embedder.linear_1", {d, c.text_dim});
  add_linear(t, embedder + "text_embedder.linear_2", {d, d});
  add_linear(t, "patch_embedding", {d, c.in_channels, c.patch[0], c.patch[1], c.patch[2]});
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    t.push_back({block + "scale_shift_table", {1, 6, d}, table});
    add_attention(t, block + "attn1.", d);
    add_attention(t, block + "attn2.", d);
    add_norm(t, block + "norm2.weight", d);
    t.push_back({block + "norm2.bias", {d}, kBiasDeviation});
    add_linear(t, block + "ffn.net.0.proj", {c.ffn_dim, d});
    add_linear(t, block + "ffn.net.2", {d, c.ffn_dim});
  }
  t.push_back({"scale_shift_table", {1, 2, d}, table});
  add_linear(t, "proj_out", {c.out_channels * patch, d});
  return t;
}

std::vector<RandomTensor> text_encoder_tensors(const TextEncoderConfig& c) {
  const int64_t inner = c.heads * c.d_kv;
  std::vector<RandomTensor> t;
  t.push_back({"shared.weight", {c.vocab, c.d_model}, 1});
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = "encoder.block." + std::to_string(i) + ".layer.";
    const std::string attention = block + "0.SelfAttention.", dense = block + "1.DenseReluDense.";
    add_norm(t, block + "0.layer_norm.weight", c.d_model);
    add_norm(t, block + "1.layer_norm.weight", c.d_model);
    t.push_back({attention + "relative_attention_bias.weight", {c.buckets, c.heads}, 1});
    // UMT5 does not scale its logits: the queries are small instead.
    t.push_back({attention + "q.weight",
                 {inner, c.d_model},
                 1 / std::sqrt(static_cast<float>(c.d_model * c.d_kv))});
    add_linear(t, attention + "k", {inner, c.d_model}, false);
    add_linear(t, attention + "v", {inner, c.d_model}, false);
    add_linear(t, attention + "o", {c.d_model, inner}, false);
    add_linear(t, dense + "wi_0", {c.d_ff, c.d_model}, false);
    add_linear(t, dense + "wi_1", {c.d_ff, c.d_model}, false);
    add_linear(t, dense + "wo", {c.d_model, c.d_ff}, false);
  }
  add_norm(t, "encoder.final_layer_norm.weight", c.d_model);
  return t;
}

void write_random_weights(const std::filesystem::path& path, std::span<const RandomTensor> tensors,
                          DType dtype, uint64_t seed) {
  nlohmann::ordered_json header;
  int64_t at = 0;
  for (const RandomTensor& tensor : tensors) {
    const int64_t bytes = tensor.shape.numel() * static_cast<int64_t>(size_bytes(dtype));
    auto& entry = header[tensor.name];
    entry["dtype"] = dtype == DType::bf16 ? "BF16" : "F32";
    entry["shape"] = nlohmann::ordered_json::parse(tensor.shape.text());
    entry["data_offsets"] = {at, at + bytes};
    at += bytes;
  }
  const std::string text = header.dump();
  std::ofstream file(path, std::ios::binary);
  const uint64_t length = text.size();  // little endian, as is every processor we build for
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file.write(text.data(), static_cast<std::streamsize>(length));
  for (const RandomTensor& tensor : tensors) write_values(file, tensor, dtype, ++seed);
  file.close();
  if (!file) fail(ExitCode::cannot_create, "cannot write {}", path.string());
}

TemporaryFolder::TemporaryFolder(const std::filesystem::path& place) {
  const auto in = place.empty() ? std::filesystem::temp_directory_path() : place;
  std::string name = (in / "longtake_XXXXXX").string();
  if (!::mkdtemp(name.data())) fail(ExitCode::cannot_create, "cannot create folder {}", name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace longtake
