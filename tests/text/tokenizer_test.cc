#include "runtime/model/tokenizer.h"

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"
#include "tests/support/golden_file.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch_folder.h"

using namespace longtake;
using namespace longtake::testing;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

json read_json(const fs::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

fs::path golden_tokenizer(const std::string& model) {
  return golden_folder() / "models" / model / "tokenizer";
}

// Compares the ids of all golden prompts with arrays `<prompt>.<ending>`.
void check_golden(const Tokenizer& tokenizer, const std::string& ending) {
  const fs::path folder = golden_folder() / "umt5";
  const GoldenFile expected(folder / "expected.safetensors");
  int checked = 0;
  const json golden = read_json(folder / "case.json");
  for (const auto& prompt : golden.at("prompts")) {
    const auto name = prompt.at("name").get<std::string>();
    CAPTURE(name);
    const OwnedTensor ids = expected.read(name + "." + ending);
    const std::vector<int32_t> want(ids.as<int32_t>(), ids.as<int32_t>() + ids.numel());

    CHECK(tokenizer.encode(prompt.at("cleaned").get<std::string>()) == want);
    ++checked;
  }
  CHECK(checked >= 15);
}

// A copy of a golden tokenizer whose tokenizer.json is another.
void copy_with(const ScratchFolder& folder, const json& tokenizer) {
  fs::copy(golden_tokenizer("t2v-tiny"), folder / "t",
           fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  write_bytes(folder / "t" / "tokenizer.json", tokenizer.dump());
}

}  // namespace

TEST_CASE("golden: ids of tokenizer.json, one unknown per run") {
  check_golden(Tokenizer(golden_tokenizer("t2v-tiny")), "ids");
}

TEST_CASE("golden: ids with byte fallback switched on") {
  const ScratchFolder folder;
  json tokenizer = read_json(golden_tokenizer("t2v-tiny") / "tokenizer.json");
  tokenizer["model"]["byte_fallback"] = true;
  copy_with(folder, tokenizer);

  check_golden(Tokenizer(folder / "t"), "ids_byte_fallback");
}

TEST_CASE("golden: ids of spiece.model alone") {
  const ScratchFolder folder;
  fs::create_directory(folder / "t");
  fs::copy(golden_tokenizer("t2v-tiny") / "spiece.model", folder / "t" / "spiece.model");

  check_golden(Tokenizer(folder / "t"), "ids_sentencepiece");
}

TEST_CASE("the unknown id is the one of the file") {
  const ScratchFolder folder;
  json tokenizer = read_json(golden_tokenizer("t2v-tiny") / "tokenizer.json");
  tokenizer["model"]["unk_id"] = 2;
  copy_with(folder, tokenizer);

  const std::vector<int32_t> ids = Tokenizer(folder / "t").encode("東京");

  CHECK(ids.size() == 3);  // the space, one unknown, the end
  CHECK(ids[1] == 2);
}

TEST_CASE("of two special tokens the longer one is taken") {
  const ScratchFolder folder;
  json tokenizer = read_json(golden_tokenizer("t2v-tiny") / "tokenizer.json");
  tokenizer["added_tokens"] = {{{"id", 7}, {"content", "<x"}}, {{"id", 9}, {"content", "<x>"}}};
  copy_with(folder, tokenizer);

  CHECK(Tokenizer(folder / "t").encode("<x><x") == std::vector<int32_t>{9, 7, 1});
}

TEST_CASE("a long text keeps its end") {
  const Tokenizer tokenizer(golden_tokenizer("t2v-tiny"));
  const std::string text = "a boat and a cat and a lake";

  const std::vector<int32_t> whole = tokenizer.encode(text), cut = tokenizer.encode(text, 5);

  REQUIRE(whole.size() > 5);
  CHECK(std::vector<int32_t>(whole.begin(), whole.begin() + 4) ==
        std::vector<int32_t>(cut.begin(), cut.begin() + 4));
  CHECK(cut[4] == 1);
  CHECK(tokenizer.encode(text, 1) == std::vector<int32_t>{1});
}

TEST_CASE("what is no tokenizer is refused") {
  const ScratchFolder folder;
  fs::create_directory(folder / "empty");
  write_bytes(folder / "bad" / "spiece.model", "this is no protocol buffer");
  json bpe = read_json(golden_tokenizer("t2v-tiny") / "tokenizer.json"), tokens = bpe;
  bpe["model"]["type"] = "BPE";
  tokens["added_tokens"] = {{{"id", -1}, {"content", "<x>"}}};

  const Error empty = error_of([&] { Tokenizer(folder / "empty"); });
  const Error bad = error_of([&] { Tokenizer(folder / "bad"); });
  copy_with(folder, bpe);
  const Error other = error_of([&] { Tokenizer(folder / "t"); });
  copy_with(folder, tokens);
  const Error negative = error_of([&] { Tokenizer(folder / "t"); });

  CHECK(empty.code() == ExitCode::missing_input);
  CHECK(mentions(empty, "spiece.model"));
  CHECK(bad.code() == ExitCode::bad_data);
  CHECK(mentions(bad, "not a SentencePiece model"));
  CHECK(other.code() == ExitCode::bad_data);
  CHECK(mentions(other, "Unigram"));
  CHECK(negative.code() == ExitCode::bad_data);
  CHECK(mentions(negative, "added_tokens"));
}
