#include "tests/crash/mutate.h"

#include <algorithm>
#include <vector>

namespace longtake::crash {

namespace {

size_t below(std::mt19937& random, size_t n) {
  return n < 2 ? 0 : std::uniform_int_distribution<size_t>(0, n - 1)(random);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

Mutated mutate_lines(const std::string& text, std::mt19937& random) {
  std::vector<std::string> lines = lines_of(text);
  const size_t a = below(random, lines.size()), b = below(random, lines.size());
  Mutated out;
  switch (below(random, 3)) {
    case 0:
      out.what = "a line twice";
      lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(b), lines[a]);
      break;
    case 1:
      out.what = "two lines exchanged";
      std::swap(lines[a], lines[b]);
      break;
    default:
      out.what = "a line missing";
      lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(a));
  }
  for (const std::string& line : lines) out.text += line;
  return out;
}

}  // namespace

Mutated mutate(const std::string& text, std::mt19937& random) {
  Mutated out{text, ""};
  const size_t size = text.size(), at = below(random, size);
  const size_t length = std::min(size - at, size_t{1} << below(random, 13));
  switch (below(random, 8)) {
    case 0:
    case 1:
      out.what = "bits flipped";
      for (size_t n = 1 + below(random, 4); n > 0; --n)
        out.text[below(random, size)] ^= static_cast<char>(1 << below(random, 8));
      return out;
    case 2:
      out.what = "its end cut off";
      out.text.resize(at);
      return out;
    case 3:
      out.what = "a part copied over another";
      out.text.replace(below(random, size - length + 1), length, text.substr(at, length));
      return out;
    case 4:
      out.what = "zeros";
      std::fill_n(out.text.begin() + static_cast<std::ptrdiff_t>(at), length, '\0');
      return out;
    case 5:
      out.what = "bytes added";
      out.text.insert(at, text.substr(below(random, size), length));
      return out;
    case 6: {
      out.what = "a digit changed";
      const size_t digit = text.find_first_of("0123456789", at);
      if (digit != std::string::npos) out.text[digit] = static_cast<char>('0' + below(random, 10));
      return out;
    }
    default:
      return mutate_lines(text, random);
  }
}

}  // namespace longtake::crash
