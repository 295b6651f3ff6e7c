#include "runtime/model/prompt.h"

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/model/html.h"
#include "runtime/model/unicode.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden_file.h"

using namespace longtake;
using namespace longtake::testing;

TEST_CASE("golden: prompts are cleaned as the reference does it") {
  std::ifstream file(golden_folder() / "umt5" / "case.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  int checked = 0;
  for (const auto& prompt : golden.at("prompts")) {
    if (prompt.at("needs_mojibake_repair")) continue;  // the one step that is left out
    CAPTURE(prompt.at("name"));
    CHECK(clean_prompt(prompt.at("prompt").get<std::string>()) ==
          prompt.at("cleaned").get<std::string>());
    ++checked;
  }
  CHECK(checked >= 14);
}

// Expectations from ftfy 6.3.1 (without encoding repair) and Python's html module.
TEST_CASE("HTML references") {
  CHECK(clean_prompt("a &amp; b &lt;i&gt;") == "a & b <i>");
  CHECK(clean_prompt("&amp;amp;amp;eacute;") == "é");
  CHECK(clean_prompt("&notit; &ampx &copy2024") == "¬it; &x ©2024");
  CHECK(clean_prompt("&NTILDE; &LTDOT; &nTILDE; &SZLIG;") == "Ñ <DOT; &nTILDE; SS");
  CHECK(clean_prompt("< &EACUTE; &eacute;") == "< &EACUTE; é");  // `<`: only Python's own rules
  CHECK(clean_prompt("&#65;&#x42;&#X43 &#128;&#x99;") == "ABC €™");
  CHECK(clean_prompt("a&#0;b&#xD800;c&#x110000;d&#99999999999;") == "a�b�c�d�");
  CHECK(clean_prompt("a&#1;b&#xFFFE;c&#xFDD0;d") == "abcd");
  CHECK(clean_prompt("&#; &#x; & &; &nosuchname;") == "&#; &#x; & &; &nosuchname;");
  CHECK(clean_prompt("&CounterClockwiseContourIntegral;") == "∳");
  CHECK(clean_prompt("&NotEqualTilde;") == "≂̸");
}

TEST_CASE("careful and full unescaping differ") {
  CHECK(html_unescape(U"&not &lt") == U"¬ <");
  CHECK(html_unescape_complete(U"&not &lt") == U"&not &lt");
  CHECK(html_unescape_complete(U"&#59; &#60;") == U"&#59; <");
}

TEST_CASE("characters that are replaced") {
  CHECK(clean_prompt("“a” ‘b’ ʼc «d»") == "\"a\" 'b' 'c «d»");
  CHECK(clean_prompt("ﬁ ﬄ ﬅ ĳ Ǆ") == "fi ffl ſt ij DŽ");
  CHECK(clean_prompt("Ａ，ｶﾞ￡　x") == "A,ガ£ x");
  CHECK(clean_prompt("\xc2\x85 \xc2\x80 \xc2\x81") == "… € \xc2\x81");
  CHECK(clean_prompt("½ ² ™ Ⅷ …") == "½ ² ™ Ⅷ …");
}

TEST_CASE("characters that are deleted, and white space") {
  CHECK(clean_prompt(std::string("a\0b\x07\x7f", 5) + "c") == "abc");
  CHECK(clean_prompt("\xef\xbb\xbf"
                     "a\xef\xbf\xbc"
                     "b\xe2\x81\xaa") == "ab");
  CHECK(clean_prompt("a\x1b[1;31mred\x1b[0m \x1b[x") == "ared");
  CHECK(clean_prompt("a\x1b[;") == "a[;");
  CHECK(clean_prompt(" a\r\n\tb\xe2\x80\xa8 c\xc2\xa0\xe2\x80\x83 d ") == "a b c d");
  CHECK(clean_prompt("a\xe2\x80\x8b"
                     "b") ==
        "a\xe2\x80\x8b"
        "b");  // U+200B is no space
  CHECK(clean_prompt(" \n\t ").empty());
  CHECK(clean_prompt("").empty());
}

TEST_CASE("composition, also of what another step made") {
  CHECK(clean_prompt("e\xcc\x81") == "é");
  CHECK(clean_prompt("&#x65;&#x301;") == "é");
  CHECK(clean_prompt("\xe1\x84\x80\xe1\x85\xa1") == "가");
}

TEST_CASE("a prompt that is not UTF-8 names byte and offset") {
  struct Case {
    std::string text;
    std::string words;
  };
  const Case cases[] = {
      {"ab\xff", "prompt is not UTF-8: byte 0xff at offset 2"},
      {"caf\xe9", "byte 0xe9 at offset 3"},
      {"\x80", "byte 0x80 at offset 0"},
      {"\xc0\xaf", "byte 0xc0 at offset 0"},          // overlong
      {"\xe0\x80\x80", "byte 0xe0 at offset 0"},      // overlong
      {"a\xed\xa0\x80", "byte 0xed at offset 1"},     // surrogate
      {"\xf4\x90\x80\x80", "byte 0xf4 at offset 0"},  // above U+10FFFF
      {"\xf5\x80\x80\x80", "byte 0xf5 at offset 0"},
      {"\xe2\x82", "byte 0xe2 at offset 0"},  // cut
      {"\xe2\x82"
       "a",
       "byte 0xe2 at offset 0"},
  };
  for (const Case& c : cases) {
    const Error e = error_of([&] { clean_prompt(c.text); });
    CHECK(e.code() == ExitCode::usage);
    CHECK(mentions(e, c.words));
  }
}

TEST_CASE("UTF-8 of every length comes back") {
  const std::string text =
      "a\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";
  CHECK(decode_utf8(text, "text").size() == 7);
  CHECK(encode_utf8(decode_utf8(text, "text")) == text);
}
