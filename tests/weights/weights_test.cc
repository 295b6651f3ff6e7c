#include "runtime/model/weights.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/elementwise.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden_file.h"
#include "tests/support/random.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/test_stream.h"

using namespace longtake;
using namespace longtake::testing;

namespace {

void write_one(const std::filesystem::path& path, const std::string& name, OwnedTensor tensor) {
  std::vector<NamedTensor> tensors;
  tensors.push_back({name, std::move(tensor)});
  write_safetensors(path, tensors);
}

void check_fails(const std::filesystem::path& path, ExitCode code, const std::string& words) {
  const Error e = error_of([&] { Weights(path, WeightsOf::transformer); });
  CHECK(e.code() == code);
  CHECK(mentions(e, words));
}

// Two shards, tensors a and b, and an index of this text.
void write_shards(const ScratchFolder& folder, const std::string& weight_map) {
  write_one(folder / "model-00001-of-00002.safetensors", "a", random_tensor({2, 3}, 1));
  write_one(folder / "model-00002-of-00002.safetensors", "b", random_tensor({4}, 2));
  write_bytes(folder / "model.safetensors.index.json", R"({"weight_map":)" + weight_map + "}");
}

OwnedTensor converted(const OwnedTensor& x, DType dtype) {
  OwnedTensor y(dtype, x.shape());
  convert(x, y, test_stream());
  return y;
}

bool same_bits(const OwnedTensor& a, const OwnedTensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.view().data, b.view().data, a.bytes()) == 0;
}

void check_same_weights(const Weights& a, const Weights& b) {
  REQUIRE(a.names() == b.names());
  for (const std::string& name : a.names()) {
    const OwnedTensor x = a.read(name, a.shape(name), DType::f32, test_stream());
    CHECK_MESSAGE(same_bits(x, b.read(name, x.shape(), DType::f32, test_stream())), name);
  }
}

}  // namespace

TEST_CASE("a tensor is read as stored or converted") {
  const ScratchFolder folder;
  const OwnedTensor x = random_tensor({3, 1200, 700}, 5);  // three pieces
  std::vector<NamedTensor> tensors;
  tensors.push_back({"f32", random_tensor({3, 1200, 700}, 5)});
  tensors.push_back({"bf16", converted(x, DType::bf16)});
  write_safetensors(folder / "model.safetensors", tensors);

  const Weights weights(folder.path(), WeightsOf::transformer);

  CHECK(weights.bytes() == x.bytes() + x.bytes() / 2);
  CHECK(weights.dtype("bf16") == DType::bf16);
  const auto read = [&](const char* name, DType dtype) {
    return weights.read(name, {3, 1200, 700}, dtype, test_stream());
  };
  CHECK(same_bits(read("f32", DType::f32), x));
  CHECK(same_bits(read("f32", DType::bf16), converted(x, DType::bf16)));
  CHECK(same_bits(read("bf16", DType::bf16), converted(x, DType::bf16)));
  CHECK(same_bits(read("bf16", DType::f32), converted(converted(x, DType::bf16), DType::f32)));
}

TEST_CASE("f16 is read, other types are refused by name") {
  const ScratchFolder folder;
  const auto header = [](const std::string& type, int size) {
    return R"({"x":{"dtype":")" + type + R"(","shape":[2],"data_offsets":[0,)" +
           std::to_string(size) + "]}}";
  };
  write_bytes(folder / "f16.safetensors",
              safetensors_bytes(header("F16", 4), std::string("\x00\x3c\x00\xc1", 4)));
  write_bytes(folder / "fp8.safetensors", safetensors_bytes(header("F8_E4M3", 2), "ab"));
  write_bytes(folder / "i32.safetensors", safetensors_bytes(header("I32", 8), "abcdefgh"));
  const auto read = [&](const char* file) {
    return Weights(folder / file, WeightsOf::vae).read("x", {2}, DType::f32, test_stream());
  };

  const OwnedTensor half = read("f16.safetensors");
  const Error fp8 = error_of([&] { read("fp8.safetensors"); });
  const Error i32 = error_of([&] { read("i32.safetensors"); });

  CHECK(half.as<float>()[0] == 1.0f);
  CHECK(half.as<float>()[1] == -2.5f);
  CHECK(fp8.code() == ExitCode::bad_data);
  CHECK(mentions(fp8, "expected type F32, BF16 or F16, found F8_E4M3"));
  CHECK(mentions(i32, "tensor x of"));
  CHECK(mentions(i32, "found I32"));
}

TEST_CASE("a missing tensor and a wrong shape name tensor and file") {
  const ScratchFolder folder;
  write_one(folder / "model.safetensors", "a", random_tensor({2, 3}, 1));
  const Weights weights(folder.path(), WeightsOf::transformer);

  const Error missing = error_of([&] { weights.read("b", {2, 3}, DType::f32, test_stream()); });
  const Error shape = error_of([&] { weights.read("a", {3, 2}, DType::f32, test_stream()); });

  CHECK(missing.code() == ExitCode::bad_data);
  CHECK(mentions(missing, "tensor b is missing"));
  CHECK(shape.code() == ExitCode::bad_data);
  CHECK(mentions(shape, "expected shape [3, 2], found [2, 3]"));
  CHECK(mentions(shape, "tensor a of"));
  CHECK(mentions(shape, "model.safetensors"));
}

TEST_CASE("NaN and infinity are found in every type") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      const ScratchFolder folder;
      OwnedTensor x = random_tensor({33, 129}, 7);
      x.as<float>()[33 * 129 - 1] = bad;
      write_one(folder / "model.safetensors", "poisoned", converted(x, dtype));
      const Weights weights(folder.path(), WeightsOf::transformer);

      const Error e = error_of([&] {
        weights.read("poisoned", {33, 129}, DType::bf16, test_stream());
      });

      CHECK(e.code() == ExitCode::bad_data);
      CHECK(mentions(e, "tensor poisoned of"));
      CHECK(mentions(e, "found NaN or infinity"));
    }
}

TEST_CASE("rows are read alone and in their order") {
  const ScratchFolder folder;
  OwnedTensor x = random_tensor({10, 33}, 3);
  x.as<float>()[5 * 33] = std::nanf("");  // in a row nobody asks for
  write_one(folder / "model.safetensors", "table", converted(x, DType::bf16));
  const Weights weights(folder.path(), WeightsOf::transformer);
  const int32_t rows[] = {9, 0, 9, 4};

  const OwnedTensor got = weights.read_rows("table", {10, 33}, rows, DType::f32, test_stream());

  const int32_t poisoned[] = {0, 5};
  const Error e = error_of([&] {
    weights.read_rows("table", {10, 33}, poisoned, DType::f32, test_stream());
  });
  CHECK(mentions(e, "found NaN or infinity"));
  REQUIRE(got.shape() == Shape{4, 33});
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 33; ++j)
      CHECK(got.as<float>()[i * 33 + j] == to_float(to_bf16(x.as<float>()[rows[i] * 33 + j])));
}

TEST_CASE("linear layers are packed from weight and bias, also from 1x1 convolutions") {
  const ScratchFolder folder;
  const OwnedTensor x = random_tensor({2, 5}, 3);
  const OwnedTensor w = random_tensor({3, 5}, 1);
  std::vector<NamedTensor> tensors;
  tensors.push_back({"conv.weight", random_tensor({3, 5, 1, 1}, 1)});
  tensors.push_back({"conv.bias", random_tensor({3}, 2)});
  write_safetensors(folder / "model.safetensors", tensors);
  const Weights weights(folder.path(), WeightsOf::transformer);
  OwnedTensor y(DType::f32, {2, 3});

  const Linear conv = weights.linear("conv", 3, 5, true, DType::f32, test_stream());
  linear({.x = x, .y = y}, conv, test_stream());

  const OwnedTensor b = random_tensor({3}, 2);
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t o = 0; o < 3; ++o) {
      double sum = b.as<float>()[o];
      for (int64_t k = 0; k < 5; ++k)
        sum += double{x.as<float>()[i * 5 + k]} * w.as<float>()[o * 5 + k];
      CHECK(std::abs(y.as<float>()[i * 3 + o] - sum) <= 8 * 6e-8);  // 6 terms up to 1, f32
    }
}

TEST_CASE("shards are one set of weights") {
  const ScratchFolder folder;
  write_shards(folder, R"({"a":"model-00001-of-00002.safetensors",
                           "b":"model-00002-of-00002.safetensors"})");

  const Weights weights(folder.path(), WeightsOf::transformer);

  CHECK(weights.names() == std::vector<std::string>{"a", "b"});
  CHECK(same_bits(weights.read("b", {4}, DType::f32, test_stream()), random_tensor({4}, 2)));
}

TEST_CASE("an index that does not fit its shards is refused") {
  const auto check = [](const std::string& map, ExitCode code, const std::string& words) {
    const ScratchFolder folder;
    write_shards(folder, map);
    check_fails(folder.path(), code, words);
  };
  check(R"({"a":"../model-00001-of-00002.safetensors"})", ExitCode::bad_data, "same folder");
  check(R"({"a":"/etc/x.safetensors"})", ExitCode::bad_data, "same folder");
  check(R"({"a":"x\\y.safetensors"})", ExitCode::bad_data, "same folder");
  check(R"({"a":""})", ExitCode::bad_data, "same folder");
  check(R"({"a":"..safetensors"})", ExitCode::bad_data, "same folder");
  check(R"({"a":"pytorch_model.bin"})", ExitCode::bad_data, "convert to safetensors");
  check(R"({"a":"model-00003-of-00002.safetensors"})", ExitCode::missing_input,
        "the shard model-00003-of-00002.safetensors is not there");
  check(R"({"c":"model-00001-of-00002.safetensors"})", ExitCode::bad_data,
        "tensor c should be in model-00001-of-00002.safetensors, but is missing there");
  check(R"({"a":"model-00002-of-00002.safetensors"})", ExitCode::bad_data, "tensor a should be");
  check(R"({"a":1})", ExitCode::bad_data, "expected a file name for tensor a");
  check(R"([])", ExitCode::bad_data, "weight_map");
  check(R"({})", ExitCode::bad_data, "weight_map");
  check(R"({"a":"model-00001-of-00002.safetensors","a":"model-00002-of-00002.safetensors"})",
        ExitCode::bad_data, "the key \"a\" is doubled");
  check(R"({"a")", ExitCode::bad_data, "not JSON");
}

TEST_CASE("a tensor in two shards is doubled") {
  const ScratchFolder folder;
  write_shards(folder, R"({"a":"model-00001-of-00002.safetensors",
                           "b":"model-00002-of-00002.safetensors"})");
  std::vector<NamedTensor> both;
  both.push_back({"b", random_tensor({4}, 2)});
  both.push_back({"a", random_tensor({2, 3}, 9)});
  write_safetensors(folder / "model-00002-of-00002.safetensors", both);

  check_fails(folder.path(), ExitCode::bad_data, "tensor a is doubled");
}

TEST_CASE("one tensor under an original and a diffusers name is doubled") {
  const ScratchFolder folder;
  std::vector<NamedTensor> both;
  both.push_back({"head.head.bias", random_tensor({4}, 2)});
  both.push_back({"proj_out.bias", random_tensor({4}, 2)});
  write_safetensors(folder / "model.safetensors", both);

  check_fails(folder.path(), ExitCode::bad_data, "tensor proj_out.bias is doubled");
}

TEST_CASE("a folder without weights says what it holds instead") {
  const ScratchFolder folder;
  check_fails(folder / "none", ExitCode::missing_input, "no such file");
  check_fails(folder.path(), ExitCode::missing_input, "no .safetensors weights");
  write_bytes(folder / "model.gguf", "GGUF");
  check_fails(folder.path(), ExitCode::bad_data, "GGUF file model.gguf: convert to safetensors");
  write_bytes(folder / "pytorch_model.bin", "PK");
  check_fails(folder.path(), ExitCode::bad_data, "pytorch_model.bin: convert to safetensors");
  write_one(folder / "x.safetensors", "a", random_tensor({1}, 1));
  CHECK(Weights(folder.path(), WeightsOf::transformer).has("a"));
  write_one(folder / "y.safetensors", "a", random_tensor({1}, 1));
  check_fails(folder.path(), ExitCode::bad_data, "found x.safetensors, y.safetensors");
}

TEST_CASE("prefixes of single-file checkpoints are dropped") {
  for (const char* prefix : {"", "model.diffusion_model.", "diffusion_model.", "model.", "net."}) {
    const ScratchFolder folder;
    write_one(folder / "wan.safetensors", std::string(prefix) + "patch_embedding.bias",
              random_tensor({4}, 2));

    CHECK(Weights(folder.path(), WeightsOf::transformer).has("patch_embedding.bias"));
  }
}

TEST_CASE("the token table goes by either of its names, also by both") {
  const ScratchFolder folder;
  write_one(folder / "a.safetensors", "encoder.embed_tokens.weight", random_tensor({4, 2}, 2));
  std::vector<NamedTensor> both;
  both.push_back({"shared.weight", random_tensor({4, 2}, 2)});
  both.push_back({"encoder.embed_tokens.weight", random_tensor({4, 2}, 2)});
  write_safetensors(folder / "b.safetensors", both);

  CHECK(Weights(folder / "a.safetensors", WeightsOf::text_encoder).has("shared.weight"));
  CHECK(Weights(folder / "b.safetensors", WeightsOf::text_encoder).names() ==
        std::vector<std::string>{"shared.weight"});
}

TEST_CASE("golden: original and diffusers names give the same weights") {
  const auto models = golden_folder() / "models";

  check_same_weights(Weights(models / "dit-head12", WeightsOf::transformer),
                     Weights(models / "dit-head12-original", WeightsOf::transformer));
  check_same_weights(Weights(models / "dit-i2v", WeightsOf::transformer),
                     Weights(models / "dit-i2v-original", WeightsOf::transformer));
  check_same_weights(Weights(models / "a14b-tiny" / "vae", WeightsOf::vae),
                     Weights(models / "vae21-small-original", WeightsOf::vae));
}
