#include "runtime/model/html.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "runtime/model/unicode.h"
#include "runtime/model/windows_1252.h"

namespace longtake {

namespace {

struct Entity {
  std::string_view name;
  std::string_view text;  // UTF-8
};

#define LT_ENTITIES
constexpr Entity kEntities[] = {
#include "runtime/model/html_entities.inc"
};
#undef LT_ENTITIES
#define LT_UPPER_ENTITIES
constexpr Entity kUpperEntities[] = {
#include "runtime/model/html_entities.inc"
};
#undef LT_UPPER_ENTITIES

constexpr size_t kLongestName = 32;          // characters html.unescape looks at, plus a semicolon
constexpr size_t kLongestCompleteName = 24;  // and ftfy
constexpr char32_t kReplacement = 0xfffd;

template <size_t N>
std::optional<std::u32string> lookup(const Entity (&table)[N], std::u32string_view name) {
  std::string ascii;
  for (const char32_t c : name) {
    if (c >= 0x80) return std::nullopt;
    ascii += static_cast<char>(c);
  }
  const auto* found =
      std::lower_bound(std::begin(table), std::end(table), ascii,
                       [](const Entity& e, const std::string& n) { return e.name < n; });
  if (found == std::end(table) || found->name != ascii) return std::nullopt;
  return decode_utf8(found->text, "entity");
}

bool is_digit(char32_t c) {
  return U'0' <= c && c <= U'9';
}
bool is_letter(char32_t c) {
  return (U'a' <= c && c <= U'z') || (U'A' <= c && c <= U'Z');
}
bool is_hex(char32_t c) {
  return is_digit(c) || (U'a' <= c && c <= U'f') || (U'A' <= c && c <= U'F');
}

// Code points that a reference may not name and that Python drops.
bool is_dropped(char32_t c) {
  return (0x1 <= c && c <= 0x8) || c == 0xb || (0xe <= c && c <= 0x1f) ||
         (0x7f <= c && c <= 0x9f) || (0xfdd0 <= c && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
}

std::u32string numbered(char32_t c) {
  if (c == 0) return {kReplacement};
  if (0x80 <= c && c <= 0x9f) return {from_windows_1252(c)};
  if ((0xd800 <= c && c <= 0xdfff) || c > 0x10ffff) return {kReplacement};
  if (is_dropped(c)) return {};
  return {c};
}

// A reference at the beginning of `text` (behind the &): what it stands for, and its length.
struct Match {
  std::u32string text;
  size_t length = 0;  // 0: no reference
};

Match match_number(std::u32string_view text) {
  const bool hex = text.size() > 1 && (text[1] == U'x' || text[1] == U'X');
  const size_t begin = hex ? 2 : 1;
  size_t end = begin;
  char32_t value = 0;
  for (; end < text.size() && (hex ? is_hex(text[end]) : is_digit(text[end])); ++end) {
    const char32_t c = text[end];
    const char32_t digit = is_digit(c) ? c - U'0' : (c | 0x20u) - U'a' + 10;
    value = std::min<char32_t>(value * (hex ? 16 : 10) + digit, 0x110000);
  }
  if (end == begin) return {};
  if (end < text.size() && text[end] == U';') ++end;
  return {numbered(value), end};
}

Match match_name(std::u32string_view text) {
  size_t end = 0;
  while (end < text.size() && end < kLongestName &&
         std::u32string_view(U"\t\n\f <&#;").find(text[end]) == std::u32string_view::npos)
    ++end;
  if (end == 0) return {};
  if (end < text.size() && text[end] == U';') ++end;
  if (auto whole = lookup(kEntities, text.substr(0, end))) return {*whole, end};
  for (size_t length = end - 1; length > 1; --length)
    if (auto begin = lookup(kEntities, text.substr(0, length))) return {*begin, length};
  return {};
}

// "EACUTE;", provided that it is no other reference, nor begins with one ("LTDOT;").
Match match_capitals(std::u32string_view name) {
  if (match_name(name).length != 0) return {};
  std::u32string lower;
  for (const char32_t c : name) {
    if (U'a' <= c && c <= U'z') return {};
    lower += is_letter(c) ? c | 0x20u : c;
  }
  if (auto upper = lookup(kUpperEntities, name)) return {*upper, name.size()};
  if (auto same = lookup(kEntities, lower)) return {*same, name.size()};
  return {};
}

Match match_complete(std::u32string_view text) {
  size_t end = !text.empty() && text[0] == U'#' ? 1 : 0;
  const size_t begin = end;
  while (end < text.size() && end - begin < kLongestCompleteName &&
         (is_digit(text[end]) || is_letter(text[end])))
    ++end;
  if (end == begin || end == text.size() || text[end] != U';') return {};
  ++end;
  if (begin == 1) {
    Match number = match_number(text.substr(0, end));
    const bool whole = number.length == end && number.text != U";";
    return whole ? number : Match{};
  }
  if (auto exact = lookup(kEntities, text.substr(0, end))) return {*exact, end};
  return match_capitals(text.substr(0, end));
}

template <class Matcher>
std::u32string replace_references(std::u32string_view text, Matcher match) {
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    const Match m = text[i] == U'&' ? match(text.substr(i + 1)) : Match{};
    if (m.length == 0) {
      out += text[i++];
    } else {
      out += m.text;
      i += 1 + m.length;
    }
  }
  return out;
}

}  // namespace

std::u32string html_unescape(std::u32string_view text) {
  return replace_references(text, [](std::u32string_view rest) {
    return !rest.empty() && rest[0] == U'#' ? match_number(rest) : match_name(rest);
  });
}

std::u32string html_unescape_complete(std::u32string_view text) {
  return replace_references(text, match_complete);
}

}  // namespace longtake
