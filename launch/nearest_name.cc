#include "launch/nearest_name.h"

#include <fmt/core.h>

#include <algorithm>

namespace longtake {

namespace {
// No name is longer; the rest of a longer one only costs time.
constexpr size_t kLongest = 64;

// "--context-rule" and "context_rule" as "-context-rule-".
std::string as_words(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  std::string out = fmt::format("-{}-", name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

// A name that says it whole, with a word more, is as near as one with another letter.
size_t distance(std::string_view name, std::string_view known) {
  const std::string words = as_words(name);
  const bool within = words.size() > 2 && as_words(known).find(words) != std::string::npos;
  const size_t letters = edit_distance(name, known);
  return within ? std::min<size_t>(1, letters) : letters;
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  const size_t cut = std::max(a.size(), kLongest) - kLongest;
  a = a.substr(0, kLongest);
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      const size_t replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()] + cut;
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& names) {
  const auto nearer = [&](const std::string& a, const std::string& b) {
    return distance(name, a) < distance(name, b);
  };
  const auto found = std::min_element(names.begin(), names.end(), nearer);
  return found == names.end() ? "" : *found;
}

}  // namespace longtake
