#include "runtime/model/prompt.h"

#include <algorithm>

#include "runtime/model/html.h"
#include "runtime/model/unicode.h"
#include "runtime/model/windows_1252.h"

namespace longtake {

namespace {

struct Ligature {
  char32_t from;
  std::u32string_view to;
};

// Latin ones only, as ftfy has them.
constexpr Ligature kLigatures[] = {
    {0x0132, U"IJ"},      {0x0133, U"ij"},      {0x0149, U"\u02bcn"}, {0x01c4, U"D\u017d"},
    {0x01c5, U"D\u017e"}, {0x01c6, U"d\u017e"}, {0x01c7, U"LJ"},      {0x01c8, U"Lj"},
    {0x01c9, U"lj"},      {0x01ca, U"NJ"},      {0x01cb, U"Nj"},      {0x01cc, U"nj"},
    {0x01f1, U"DZ"},      {0x01f2, U"Dz"},      {0x01f3, U"dz"},      {0xfb00, U"ff"},
    {0xfb01, U"fi"},      {0xfb02, U"fl"},      {0xfb03, U"ffi"},     {0xfb04, U"ffl"},
    {0xfb05, U"\u017ft"}, {0xfb06, U"st"},
};

void append_expanded(std::u32string& out, char32_t c) {
  for (const Ligature& ligature : kLigatures)
    if (ligature.from == c) {
      out += ligature.to;
      return;
    }
  if (c == 0x3000)
    out += U' ';
  else if (0xff01 <= c && c <= 0xffef)
    out += normalize_nfkc({&c, 1});
  else
    out += c;
}

char32_t straight_quote(char32_t c) {
  if (c == 0x02bc || (0x2018 <= c && c <= 0x201b)) return U'\'';
  if (0x201c <= c && c <= 0x201f) return U'"';
  return c;
}

bool is_deleted(char32_t c) {
  return c <= 0x08 || c == 0x0b || (0x0e <= c && c <= 0x1f) || c == 0x7f ||
         (0x206a <= c && c <= 0x206f) || c == 0xfeff || (0xfff9 <= c && c <= 0xfffc);
}

std::u32string with_unix_line_breaks(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == U'\r' && i + 1 < text.size() && text[i + 1] == U'\n') continue;
    out += c == U'\r' || c == 0x2028 || c == 0x2029 || c == 0x85 ? U'\n' : c;
  }
  return out;
}

// ESC [ digits and semicolons, one letter.
std::u32string without_terminal_escapes(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    if (text.substr(i, 2) == U"\x1b[") {
      end = i + 2;
      while (end < text.size() && ((U'0' <= text[end] && text[end] <= U'9') || text[end] == U';'))
        ++end;
      const char32_t lower = end < text.size() ? text[end] | 0x20u : 0;
      end = U'a' <= lower && lower <= U'z' ? end + 1 : i;
    }
    if (end == i)
      out += text[i++];
    else
      i = end;
  }
  return out;
}

std::u32string fix_once(std::u32string text, bool unescape) {
  if (unescape) text = html_unescape_complete(text);
  std::u32string expanded;
  for (const char32_t c : text) append_expanded(expanded, from_windows_1252(c));
  std::transform(expanded.begin(), expanded.end(), expanded.begin(), straight_quote);
  text = without_terminal_escapes(with_unix_line_breaks(expanded));
  std::erase_if(text, is_deleted);
  return normalize_nfc(text);
}

// ftfy.fix_text: line by line, each until nothing changes. From the first line with a `<` on, HTML
// is taken for intended.
std::u32string fix_text(std::u32string_view text) {
  std::u32string out;
  bool unescape = true;
  while (!text.empty()) {
    const size_t newline = text.find(U'\n');
    const std::u32string_view line = text.substr(0, newline == text.npos ? newline : newline + 1);
    text.remove_prefix(line.size());
    unescape = unescape && line.find(U'<') == line.npos;
    std::u32string before, fixed(line);
    while (fixed != before) {
      before = fixed;
      fixed = fix_once(std::move(fixed), unescape);
    }
    out += fixed;
  }
  return out;
}

std::u32string with_single_spaces(std::u32string_view text) {
  std::u32string out;
  for (const char32_t c : text)
    if (!is_white_space(c))
      out += c;
    else if (!out.empty() && out.back() != U' ')
      out += U' ';
  return out;
}

}  // namespace

std::string clean_prompt(std::string_view prompt) {
  const std::u32string fixed = fix_text(decode_utf8(prompt, "prompt"));
  const std::u32string text = html_unescape(html_unescape(fixed));
  return encode_utf8(stripped(with_single_spaces(text)));
}

}  // namespace longtake
