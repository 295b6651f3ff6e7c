// Bad models: the exit code, a message that says what was expected, what was found and where, and
// no run folder afterwards.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"
#include "tests/support/golden_file.h"
#include "tests/support/safetensors_writer.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

constexpr const char* kTensor = "blocks.3.ffn.net.2.weight";  // bf16 [192, 640]

uint64_t begin_of(const WeightsFile& file, const std::string& tensor) {
  return file.header.at(tensor).at("data_offsets").at(0);
}

// The weights in two shards under an index; `map` may change what the index says.
void shard(const DemoModel& model, const std::function<void(nlohmann::json&)>& map) {
  const WeightsFile all = WeightsFile::read(model / kTransformerWeights);
  model.remove(kTransformerWeights);
  WeightsFile shards[2];
  nlohmann::json files = nlohmann::json::object();
  int number = 0;
  for (const auto& [name, entry] : all.header.items()) {
    if (name == "__metadata__") continue;
    const int which = number++ % 2;
    WeightsFile& to = shards[which];
    const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    to.header[name] = entry;
    to.header[name]["data_offsets"] = {to.data.size(), to.data.size() + (end - begin)};
    to.data.append(all.data, begin, end - begin);
    files[name] = "model-0000" + std::to_string(which + 1) + "-of-00002.safetensors";
  }
  map(files);
  model.replace("transformer/model-00001-of-00002.safetensors", shards[0].bytes());
  model.replace("transformer/model-00002-of-00002.safetensors", shards[1].bytes());
  model.replace("transformer/diffusion_pytorch_model.safetensors.index.json",
                nlohmann::json{{"weight_map", files}}.dump());
}

}  // namespace

TEST_CASE("the demo model itself is good, also in shards") {
  const DemoModel model, sharded;
  shard(sharded, [](nlohmann::json&) {});

  const Outcome whole = model.generate(), parts = sharded.generate();

  CHECK_MESSAGE(whole.code == 0, whole.err);
  CHECK_MESSAGE(parts.code == 0, parts.err);
  check_good_blocks(model.run(), 1);
  CHECK(contents(model.run() / "out/b00000000.h5") == contents(sharded.run() / "out/b00000000.h5"));
}

TEST_CASE("a model that is missing") {
  const DemoModel model, no_weights, no_tokenizer;
  no_weights.remove(kTransformerWeights);
  no_tokenizer.remove("tokenizer/spiece.model");
  fs::remove(no_tokenizer / "tokenizer/tokenizer.json");

  model.check_refused(66, {"/nowhere", "no such model folder"}, {"--model", "/nowhere"});
  model.check_refused(66, {"expected a model folder, found a file"},
                      {"--model", (model / "model_index.json").string()});
  no_weights.check_refused(66, {"transformer", "no .safetensors weights"});
  no_tokenizer.check_refused(66, {"spiece.model"});
}

TEST_CASE("a model that cannot be read") {
  const DemoModel loop, folder, pipe;
  loop.remove(kTransformerWeights);
  fs::create_symlink(loop / kTransformerWeights, loop / kTransformerWeights);
  folder.remove(kVaeWeights);
  fs::create_directory(folder / kVaeWeights);
  pipe.remove(kTextWeights);
  REQUIRE(::mkfifo((pipe / kTextWeights).c_str(), 0600) == 0);

  loop.check_refused(66, {kTransformerWeights, "Too many levels of symbolic links"});
  folder.check_refused(66, {"vae", "no .safetensors weights in this folder"});
  pipe.check_refused(66, {kTextWeights, "expected a file, found something else"});
  if (::geteuid() == 0) return;  // root may read anything
  const DemoModel locked;
  locked.replace(kVaeWeights, "");
  fs::permissions(locked / kVaeWeights, fs::perms::none);
  locked.check_refused(66, {kVaeWeights, "Permission denied"});
}

TEST_CASE("a tensor that is missing") {
  const DemoModel transformer, vae, text;
  // Under another name, so that nothing but the name is wrong.
  const auto rename = [](const std::string& name) {
    return [name](WeightsFile& file) {
      nlohmann::ordered_json header;
      for (const auto& [key, entry] : file.header.items()) header[key == name ? "x" : key] = entry;
      file.header = header;
    };
  };
  transformer.edit(kTransformerWeights, rename(kTensor));
  vae.edit(kVaeWeights, rename("decoder.conv_out.bias"));
  text.edit(kTextWeights, rename("encoder.final_layer_norm.weight"));

  transformer.check_refused(65, {"transformer", std::string("tensor ") + kTensor + " is missing"});
  vae.check_refused(65, {"vae", "tensor decoder.conv_out.bias is missing"});
  text.check_refused(65, {"text_encoder", "tensor encoder.final_layer_norm.weight is missing"});
}

TEST_CASE("a tensor that is doubled") {
  const DemoModel header, shards;
  const WeightsFile file = WeightsFile::read(header / kTransformerWeights);
  std::string text = file.header.dump();
  text.insert(1, '"' + std::string(kTensor) + "\":" + file.header.at(kTensor).dump() + ",");
  header.replace(kTransformerWeights, safetensors_bytes(text, file.data));
  shard(shards, [](nlohmann::json&) {});
  WeightsFile twice = WeightsFile::read(shards / "transformer/model-00002-of-00002.safetensors");
  const WeightsFile first =
      WeightsFile::read(shards / "transformer/model-00001-of-00002.safetensors");
  const std::string name = first.header.items().begin().key();
  const uint64_t bytes =
      first.header[name]["data_offsets"][1].get<uint64_t>() - begin_of(first, name);
  twice.header[name] = first.header[name];
  twice.header[name]["data_offsets"] = {twice.data.size(), twice.data.size() + bytes};
  twice.data.append(bytes, '\0');
  shards.replace("transformer/model-00002-of-00002.safetensors", twice.bytes());

  header.check_refused(
      65, {kTransformerWeights, std::string("tensor ") + kTensor + " is doubled in the header"});
  shards.check_refused(65, {"tensor " + name + " is doubled", "model-00001-of-00002.safetensors",
                            "model-00002-of-00002.safetensors"});
}

TEST_CASE("a tensor of the wrong shape or type") {
  const DemoModel shape, type, strange;
  shape.edit(kTransformerWeights, [](WeightsFile& file) {
    file.header[kTensor]["shape"] = {640, 192};
  });
  type.edit(kTransformerWeights, [](WeightsFile& file) { file.header[kTensor]["dtype"] = "I16"; });
  strange.edit(kVaeWeights,
               [](WeightsFile& file) { file.header["decoder.conv_out.bias"]["dtype"] = "BF17"; });

  shape.check_refused(
      65, {kTransformerWeights, kTensor, "expected shape [192, 640], found [640, 192]"});
  type.check_refused(65,
                     {kTransformerWeights, kTensor, "expected type F32, BF16 or F16, found I16"});
  strange.check_refused(
      65, {kVaeWeights, "tensor decoder.conv_out.bias has the unknown type \"BF17\""});
}

TEST_CASE("truncated files and trailing bytes") {
  const std::string transformer = contents(demo_configs() / "model" / kTransformerWeights);
  const DemoModel cut, empty, header_only, trailing, index;
  cut.replace(kTransformerWeights, transformer.substr(0, transformer.size() - 1));
  empty.replace(kTextWeights, "");
  header_only.replace(kTransformerWeights, transformer.substr(0, 1000));
  trailing.replace(kVaeWeights, contents(demo_configs() / "model" / kVaeWeights) + "abc");
  index.replace("model_index.json", "{\"_class_name\": \"WanPip");

  cut.check_refused(65, {kTransformerWeights, "but the file holds only", "truncated"});
  empty.check_refused(65, {kTextWeights, "at least 8 bytes, found 0"});
  header_only.check_refused(65, {kTransformerWeights, "but only 992 follow: truncated"});
  trailing.check_refused(65, {kVaeWeights, "found 3 trailing bytes"});
  index.check_refused(65, {"model_index.json", "not JSON"});
}

TEST_CASE("a header length that lies") {
  const auto stating = [](const WeightsFile& file, uint64_t stated) {
    return safetensors_bytes(file.header.dump(), file.data, stated);
  };
  const DemoModel huge, beyond, less, more;
  const WeightsFile vae = WeightsFile::read(huge / kVaeWeights);
  const uint64_t length = vae.header.dump().size();
  huge.replace(kVaeWeights, stating(vae, UINT64_MAX));
  beyond.replace(kVaeWeights, stating(vae, length + vae.data.size() + 1));
  less.replace(kVaeWeights, stating(vae, length - 10));
  more.replace(kVaeWeights, stating(vae, length + 10));

  huge.check_refused(65, {kVaeWeights, "the header length says 18446744073709551615 bytes"});
  beyond.check_refused(65, {kVaeWeights, "the header length says", "truncated"});
  less.check_refused(65, {kVaeWeights, "the header"});
  more.check_refused(65, {kVaeWeights, "the header"});
}

TEST_CASE("shapes that overflow") {
  const auto with_shape = [](const nlohmann::json& shape) {
    return [shape](WeightsFile& file) { file.header[kTensor]["shape"] = shape; };
  };
  const DemoModel product, one, negative, offsets;
  const int64_t large = int64_t{1} << 62;
  product.edit(kTransformerWeights, with_shape({large, large}));
  one.edit(kTransformerWeights, with_shape({UINT64_MAX, 1}));
  negative.edit(kTransformerWeights, with_shape({-192, -640}));
  offsets.edit(kTransformerWeights,
               [](WeightsFile& file) { file.header[kTensor]["data_offsets"][1] = UINT64_MAX; });

  product.check_refused(65, {kTransformerWeights, kTensor, "overflows"});
  one.check_refused(65, {kTransformerWeights, kTensor, "overflows"});
  negative.check_refused(65,
                         {kTransformerWeights, kTensor, "found a negative number at \"shape\""});
  offsets.check_refused(65, {kTransformerWeights, kTensor, "18446744073709551615"});
}

TEST_CASE("names of shards cannot lead out of the folder") {
  const char* const wrong[] = {"../model-00001-of-00002.safetensors", "/etc/passwd.safetensors",
                               "sub/model-00001-of-00002.safetensors"};
  for (const char* name : wrong) {
    const DemoModel model;
    shard(model, [&](nlohmann::json& files) { files[kTensor] = name; });

    model.check_refused(65,
                        {"index.json", "same folder", std::string("found the shard \"") + name});
  }
}

TEST_CASE("a model of another family, and variants that are not made") {
  const DemoModel flux, transformer, image;
  flux.set("model_index.json", "_class_name", "FluxPipeline");
  transformer.set("transformer/config.json", "_class_name", "HunyuanVideoTransformer3DModel");
  image.set("transformer/config.json", "in_channels", 36);

  flux.check_refused(65, {"model_index.json", "found \"FluxPipeline\"", "another family"});
  transformer.check_refused(
      65, {"transformer/config.json", "HunyuanVideoTransformer3DModel", "another family"});
  image.check_refused(65, {"Wan2.2 I2V-A14B"});
}

TEST_CASE("pickle files are refused, and the message says what to do") {
  const DemoModel by_name, by_content;
  by_name.remove(kVaeWeights);
  by_name.replace("vae/diffusion_pytorch_model.bin", std::string("PK\x03\x04", 4));
  by_content.replace(kTransformerWeights, std::string("PK\x03\x04", 4) + std::string(100, 'x'));

  by_name.check_refused(65, {"diffusion_pytorch_model.bin", "convert to safetensors"});
  by_content.check_refused(65, {kTransformerWeights, "pickle", "convert to safetensors"});
}

TEST_CASE("NaN and infinity in any of the weights") {
  const auto poison = [](const DemoModel& model, const char* weights, const std::string& tensor,
                         const std::string& value) {
    model.edit(weights, [&](WeightsFile& file) {
      file.data.replace(begin_of(file, tensor), value.size(), value);
    });
  };
  const DemoModel transformer, vae, text;
  poison(transformer, kTransformerWeights, kTensor, std::string("\xc0\x7f", 2));  // bf16 NaN
  poison(vae, kVaeWeights, "decoder.conv_out.bias", std::string("\x80\x7f", 2));  // infinity
  poison(text, kTextWeights, "encoder.final_layer_norm.weight",
         std::string("\x00\x00\xc0\x7f", 4));  // f32 NaN

  transformer.check_refused(65, {kTransformerWeights, kTensor, "found NaN or infinity"});
  vae.check_refused(65, {kVaeWeights, "decoder.conv_out.bias", "found NaN or infinity"});
  text.check_refused(65,
                     {kTextWeights, "encoder.final_layer_norm.weight", "found NaN or infinity"});
}

TEST_CASE("the 5B takes multiples of 32, with and without its VAE") {
  const ScratchFolder scratch;
  const fs::path root = scratch / "5b";
  fs::create_directories(root);
  fs::create_symlink(golden_folder() / "models" / "dit-ti2v", root / "transformer");
  write_bytes(root / "model_index.json",
              R"({"_class_name":"WanPipeline","transformer":["diffusers","x"]})");
  const auto sized = [&](const char* size) {
    return run({"generate", "--model", root, "-o", scratch / "run", "-p", "x", "--size", size,
                "--latents-only"});
  };

  check_failed(sized("80x64"), 2, {"Wan2.2 TI2V-5B needs multiples of 32, found 80 x 64"});
  check_failed(sized("64x48"), 2, {"multiples of 32, found 64 x 48"});
  // A good size gets past that; the folder holds no text encoder.
  const Outcome good = sized("64x64");
  CHECK(good.code == 66);
  CHECK(good.err.find("multiples") == std::string::npos);
  CHECK_FALSE(fs::exists(scratch / "run"));
}

}  // namespace longtake
