// The tokenizer of the text encoder: SentencePiece, corrected where the reference's tokenizer.json
// differs from it (wan.md 4.5.2).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace longtake {

class Tokenizer {
 public:
  // A folder with spiece.model and, usually, tokenizer.json.
  explicit Tokenizer(const std::filesystem::path& folder);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // At most `most` ids, the last of which is always the end of the text. UTF-8, already cleaned.
  std::vector<int32_t> encode(std::string_view text, int64_t most = 512) const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace longtake
