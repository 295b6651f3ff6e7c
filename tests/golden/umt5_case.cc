// Prompts to embeddings.
#include <doctest/doctest.h>

#include "runtime/model/prompt.h"
#include "runtime/model/text_encoder.h"
#include "runtime/model/tokenizer.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

constexpr double kBf16Limit = 2e-2;
constexpr int64_t kKept = 32;  // long prompts: that many first and last rows are stored

// What is stored of an embedding.
OwnedTensor stored_rows(const OwnedTensor& all, const Shape& shape) {
  OwnedTensor out(DType::f32, shape);
  const int64_t rows = shape[0], d = shape[1];
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t from = rows == all.dim(0) || i < kKept ? i : all.dim(0) - rows + i;
    std::copy_n(all.as<float>() + from * d, d, out.as<float>() + i * d);
  }
  return out;
}

}  // namespace

void run_umt5_case(GoldenCase& golden) {
  const double limit = golden.json().at("tolerance").at("max_abs");
  const Weights weights(golden.model(), WeightsOf::text_encoder);
  const TextEncoderConfig config = read_text_encoder_config(golden.model());
  const TextEncoder exact(weights, config, DType::f32, test_stream());
  const TextEncoder rounded(weights, config, DType::bf16, test_stream());
  const Tokenizer tokenizer(golden.model("tokenizer"));
  for (const auto& prompt : golden.json().at("prompts")) {
    const std::string name = prompt.at("name");
    const std::string text = prompt.at("needs_mojibake_repair").get<bool>()
                                 ? prompt.at("cleaned").get<std::string>()
                                 : clean_prompt(prompt.at("prompt").get<std::string>());
    const std::vector<int32_t> ids = tokenizer.encode(text);
    const OwnedTensor expected = golden.expected(name + ".embedding");
    golden.compare(name, stored_rows(exact.encode(ids, test_stream()), expected.shape()), expected,
                   limit);
    golden.compare_relative(name + " bf16",
                            stored_rows(rounded.encode(ids, test_stream()), expected.shape()),
                            expected, kBf16Limit);
  }
}

}  // namespace longtake::testing
