#include "runtime/model/unicode.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// Length of the sequence that begins at text[i], 0 when it is none (RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF).
size_t sequence(std::string_view text, size_t i, char32_t& c) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[i + k]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xc2 ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
  if (length == 0 || text.size() - i < length) return 0;
  c = length == 1 ? lead : lead & (0x7fu >> length);
  for (size_t k = 1; k < length; ++k) {
    if ((byte(k) & 0xc0u) != 0x80u) return 0;
    c = (c << 6) | (byte(k) & 0x3fu);
  }
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < kLeast[length] || c > 0x10ffff || (0xd800 <= c && c <= 0xdfff)) return 0;
  return length;
}

std::u32string normalize(std::u32string_view text, int options) {
  const std::string utf8 = encode_utf8(text);
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(utf8.data()),
                                             static_cast<utf8proc_ssize_t>(utf8.size()), &raw,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> out(raw, std::free);
  LT_CHECK(size >= 0, "Unicode normalisation failed: {}", utf8proc_errmsg(size));
  return decode_utf8({reinterpret_cast<const char*>(raw), static_cast<size_t>(size)},
                     "normalised text");
}

}  // namespace

std::u32string decode_utf8(std::string_view text, std::string_view what) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    char32_t c = 0;
    const size_t length = sequence(text, i, c);
    if (length == 0)
      fail(ExitCode::usage, "{} is not UTF-8: byte 0x{:02x} at offset {}", what,
           static_cast<unsigned char>(text[i]), i);
    out.push_back(c);
    i += length;
  }
  return out;
}

std::string encode_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  const auto tail = [](char32_t c, int shift) {
    return static_cast<char>(0x80u | ((c >> shift) & 0x3fu));
  };
  for (const char32_t c : text) {
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += {static_cast<char>(0xc0u | (c >> 6)), tail(c, 0)};
    } else if (c < 0x10000) {
      out += {static_cast<char>(0xe0u | (c >> 12)), tail(c, 6), tail(c, 0)};
    } else {
      out += {static_cast<char>(0xf0u | (c >> 18)), tail(c, 12), tail(c, 6), tail(c, 0)};
    }
  }
  return out;
}

std::u32string normalize_nfc(std::u32string_view text) {
  return normalize(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}

std::u32string normalize_nfkc(std::u32string_view text) {
  return normalize(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
}

bool is_white_space(char32_t c) {
  return (0x09 <= c && c <= 0x0d) || (0x1c <= c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (0x2000 <= c && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::u32string_view stripped(std::u32string_view text) {
  while (!text.empty() && is_white_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_white_space(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace longtake
