// Text as code points.
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// Fails with byte and offset when `text` is not UTF-8; `what` names the text in the message.
std::u32string decode_utf8(std::string_view text, std::string_view what);
std::string encode_utf8(std::u32string_view text);

std::u32string normalize_nfc(std::u32string_view text);
std::u32string normalize_nfkc(std::u32string_view text);

bool is_white_space(char32_t c);  // what Python's \s and strip() take
std::u32string_view stripped(std::u32string_view text);

}  // namespace longtake
