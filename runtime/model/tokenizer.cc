#include "runtime/model/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <string>

#include "kernels/base/error.h"
#include "runtime/model/config_file.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

struct SpecialToken {
  std::string text;
  int32_t id;
};

constexpr int64_t kMostId = INT32_MAX;

std::vector<SpecialToken> read_special_tokens(const ConfigFile& file) {
  std::vector<SpecialToken> out;
  if (!file.has("added_tokens")) return out;
  for (const nlohmann::json& token : file.tree().at("added_tokens")) {
    const auto id = token.is_object() ? token.find("id") : token.end();
    const auto text = token.is_object() ? token.find("content") : token.end();
    if (!token.is_object() || id == token.end() || text == token.end() || !text->is_string() ||
        text->get_ref<const std::string&>().empty() || !id->is_number_unsigned() ||
        id->get<uint64_t>() > static_cast<uint64_t>(kMostId))
      file.reject("added_tokens", "a list of {\"id\": number, \"content\": text}");
    out.push_back({text->get<std::string>(), id->get<int32_t>()});
  }
  return out;
}

}  // namespace

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor pieces;
  std::vector<SpecialToken> special;  // matched literally in the text
  bool byte_fallback = true;          // pieces of single bytes for what the vocabulary lacks
  int32_t unknown = 0, end = 0;

  void obey(const ConfigFile& file) {
    const auto model = file.tree().find("model");
    if (model == file.tree().end() || !model->is_object() ||
        model->value("type", "Unigram") != "Unigram")
      file.reject("model", "a model of type Unigram");
    const auto fallback = model->find("byte_fallback");
    byte_fallback = fallback != model->end() && fallback->is_boolean() && fallback->get<bool>();
    const auto unknown_id = model->find("unk_id");
    if (unknown_id != model->end() && unknown_id->is_number_unsigned() &&
        unknown_id->get<uint64_t>() < static_cast<uint64_t>(pieces.GetPieceSize()))
      unknown = unknown_id->get<int32_t>();
    special = read_special_tokens(file);
  }

  const SpecialToken* special_at(std::string_view text) const {
    const SpecialToken* longest = nullptr;
    for (const SpecialToken& token : special)
      if (text.starts_with(token.text) && (!longest || token.text.size() > longest->text.size()))
        longest = &token;
    return longest;
  }

  // Without byte fallback a run of bytes is one unknown; a new word begins with a piece of its own,
  // which ends the run.
  void append_pieces(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<int> found;
    const auto status = pieces.Encode({text.data(), text.size()}, &found);
    if (!status.ok()) fail(ExitCode::error, "cannot tokenize the prompt: {}", status.ToString());
    bool in_unknown = false;
    for (const int id : found) {
      const bool is_unknown = pieces.IsUnknown(id) || (!byte_fallback && pieces.IsByte(id));
      if (!is_unknown)
        ids.push_back(id);
      else if (!in_unknown)
        ids.push_back(unknown);
      in_unknown = is_unknown;
    }
  }
};

Tokenizer::Tokenizer(const fs::path& folder) : model_(std::make_unique<Model>()) {
  const fs::path spiece = folder / "spiece.model";
  std::error_code error;
  if (!fs::is_regular_file(spiece, error))
    fail(ExitCode::missing_input, "{}: expected the tokenizer's spiece.model, found none",
         folder.string());
  const auto status = model_->pieces.Load(spiece.string());
  if (!status.ok())
    fail(ExitCode::bad_data, "{}: not a SentencePiece model: {}", spiece.string(),
         status.ToString());
  model_->unknown = model_->pieces.unk_id();
  model_->end = model_->pieces.eos_id();
  if (model_->end < 0)
    fail(ExitCode::bad_data, "{}: expected an end-of-text piece, found none", spiece.string());
  const fs::path json = folder / "tokenizer.json";
  if (fs::exists(json, error)) model_->obey(ConfigFile(json));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, int64_t most) const {
  LT_CHECK(most >= 1, "expected room for at least one token, found {}", most);
  std::vector<int32_t> ids;
  size_t begin = 0, at = 0;
  while (at < text.size()) {
    const SpecialToken* token = model_->special_at(text.substr(at));
    if (!token) {
      ++at;
      continue;
    }
    model_->append_pieces(text.substr(begin, at - begin), ids);
    ids.push_back(token->id);
    begin = at += token->text.size();
  }
  model_->append_pieces(text.substr(begin), ids);
  ids.resize(std::min(ids.size(), static_cast<size_t>(most) - 1));
  ids.push_back(model_->end);
  return ids;
}

}  // namespace longtake
