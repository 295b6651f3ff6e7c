#include "kernels/cuda/gemm_table.h"

#include "kernels/base/error.h"

namespace longtake::cuda {

namespace {

// Reads an object of strings, which hold no escapes: none are written.
class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  std::map<std::string, std::string> object() {
    std::map<std::string, std::string> out;
    expect('{');
    if (!next_is('}')) {
      do {
        std::string key = string();
        expect(':');
        std::string value = string();
        if (!out.emplace(std::move(key), std::move(value)).second) wrong("a new key");
      } while (next_is(','));
      expect('}');
    }
    skip_space();
    if (at_ != text_.size()) wrong("the end");
    return out;
  }

 private:
  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }
  bool next_is(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!next_is(c)) wrong(std::string(1, c).c_str());
  }
  std::string string() {
    expect('"');
    const size_t end = text_.find_first_of("\"\\\n", at_);
    if (end == std::string::npos || text_[end] != '"') wrong("a plain string");
    const std::string out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return out;
  }
  [[noreturn]] void wrong(const char* expected) const {
    fail(ExitCode::bad_data, "table of matrix products: expected {} at character {} of {}",
         expected, at_, text_.size());
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

GemmTable& GemmTable::of_process() {
  static GemmTable table;
  return table;
}

std::optional<std::string> GemmTable::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

std::string GemmTable::add(const std::string& key, const std::string& algorithm) {
  const std::lock_guard lock(mutex_);
  return entries_.emplace(key, algorithm).first->second;
}

void GemmTable::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
  ++generation_;
}

std::string GemmTable::text() const {
  const std::lock_guard lock(mutex_);
  std::string out = "{";
  for (const auto& [key, algorithm] : entries_)
    out += fmt::format("{}\n  \"{}\": \"{}\"", out.size() > 1 ? "," : "", key, algorithm);
  return out + (entries_.empty() ? "}\n" : "\n}\n");
}

void GemmTable::load(const std::string& text) {
  const std::map<std::string, std::string> read = Reader(text).object();
  const std::lock_guard lock(mutex_);
  for (const auto& [key, algorithm] : read) entries_.insert_or_assign(key, algorithm);
  ++generation_;
}

}  // namespace longtake::cuda
