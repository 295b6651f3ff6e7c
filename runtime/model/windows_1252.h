// What a C1 control (U+0080 to U+009F) was meant to be: browsers, HTML 5 and ftfy read it as
// windows-1252; five of them are not assigned there and stay.
#pragma once

namespace longtake {

constexpr char32_t from_windows_1252(char32_t c) {
  constexpr char32_t kTable[] = {0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021,
                                 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8d,   0x017d, 0x8f,
                                 0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178};
  return 0x80 <= c && c <= 0x9f ? kTable[c - 0x80] : c;
}

}  // namespace longtake
