// Character references of HTML, read the way the reference pipeline's Python reads them.
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// Python's html.unescape, the rules of the HTML 5 standard: all names, numeric forms, the old names
// also without a semicolon and as the beginning of a longer word ("&notit;" -> "¬it;").
std::u32string html_unescape(std::u32string_view text);

// The careful version of ftfy: complete references only; some names also in capitals.
std::u32string html_unescape_complete(std::u32string_view text);

}  // namespace longtake
