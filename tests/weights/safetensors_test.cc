#include "runtime/model/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/support/expect_error.h"
#include "tests/support/random.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch_folder.h"

using namespace longtake;
using namespace longtake::testing;

namespace {

// One f32 vector of four.
const std::string kGood = R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
const std::string kData(16, 'x');

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets,
                  const std::string& name = "a") {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                     offsets);
}

std::string object(const std::string& first, const std::string& second = "") {
  return fmt::format("{{{}{}{}}}", first, second.empty() ? "" : ",", second);
}

void check_refused(const std::string& bytes, const std::string& words) {
  const ScratchFolder folder;
  write_bytes(folder / "bad.safetensors", bytes);

  const Error e = error_of([&] { SafetensorsFile(folder / "bad.safetensors"); });

  CHECK(mentions(e, words));
  CHECK(mentions(e, "bad.safetensors"));
  CHECK(e.code() == ExitCode::bad_data);
}

void check_header_refused(const std::string& header, const std::string& words) {
  check_refused(safetensors_bytes(header, kData), words);
}

}  // namespace

TEST_CASE("tensors come back as they were written, at any offset") {
  const ScratchFolder folder;
  OwnedTensor byte(DType::u8, {3}), empty(DType::f32, {0, 5}), scalar(DType::f32, {});
  std::memcpy(byte.view().data, "abc", 3);
  *scalar.as<float>() = 2.5f;
  const OwnedTensor odd = random_tensor({5, 7}, 1);
  std::vector<NamedTensor> tensors;
  tensors.push_back({"byte", std::move(byte)});
  tensors.push_back({"odd", random_tensor({5, 7}, 1)});  // begins at byte 3
  tensors.push_back({"empty", std::move(empty)});
  tensors.push_back({"scalar", std::move(scalar)});
  write_safetensors(folder / "a.safetensors", tensors);

  const SafetensorsFile file(folder / "a.safetensors");

  REQUIRE(file.entries().size() == 4);
  CHECK(file.entries()[0].name == "byte");
  CHECK(file.entries()[1].shape == Shape{5, 7});
  CHECK(file.entries()[2].bytes == 0);
  CHECK(file.entries()[3].shape.rank() == 0);
  OwnedTensor out(DType::f32, {5, 7});
  file.read(file.entries()[1], 0, 140, out.view().data);
  CHECK(std::memcmp(out.view().data, odd.view().data, 140) == 0);
  float last = 0;
  file.read(file.entries()[1], 136, 4, &last);
  CHECK(last == odd.as<float>()[34]);
}

TEST_CASE("padding, metadata and every type of the format are accepted") {
  const std::string text =
      R"({"__metadata__":{"format":"pt"},)" + entry("F8_E4M3", "[2]", "[0,2]", "fp8") + "," +
      entry("F4", "[4]", "[2,4]", "fp4") + "," + entry("C64", "[1]", "[4,12]", "complex") + "," +
      entry("BOOL", "[2,2]", "[12,16]", "flags") + "}     ";
  const std::string bytes = safetensors_bytes(text, kData);

  const auto entries =
      parse_safetensors(std::as_bytes(std::span(bytes)), bytes.size(), "in memory");

  REQUIRE(entries.size() == 4);
  CHECK(entries[0].type == "F8_E4M3");
  CHECK(!entries[0].dtype);
  CHECK(entries[3].dtype == DType::boolean);
  CHECK(entries[1].offset == 8 + text.size() + 2);
}

TEST_CASE("a file that is cut or too long is refused") {
  check_refused("", "at least 8 bytes, found 0");
  check_refused("1234567", "at least 8 bytes, found 7");
  check_refused(safetensors_bytes(kGood, kData.substr(1)), "holds only 15: truncated");
  check_refused(safetensors_bytes(kGood, kData + "y"), "1 trailing bytes");
  check_refused(safetensors_bytes(kGood, ""), "holds only 0: truncated");
  check_refused(safetensors_bytes("{}", kData), "16 trailing bytes");
}

TEST_CASE("a header length that lies is refused") {
  check_refused(safetensors_bytes(kGood, kData, 1000), "says 1000 bytes, but only");
  check_refused(safetensors_bytes(kGood, kData, 100'000'001), "expected at most 100000000");
  check_refused(safetensors_bytes(kGood, kData, UINT64_MAX), "expected at most 100000000");
  check_refused(safetensors_bytes(kGood, kData, UINT64_MAX - 7), "expected at most 100000000");
  check_refused(safetensors_bytes(kGood, kData, kGood.size() - 1), "not JSON");
  check_refused(safetensors_bytes(kGood, kData, kGood.size() + 1), "not JSON");
  check_refused(safetensors_bytes(kGood, kData, 0), "must begin with {");
}

TEST_CASE("a header that is no such JSON is refused") {
  check_header_refused("[]", "must begin with {");
  check_header_refused(" " + kGood, "must begin with {");
  check_header_refused("{", "not JSON");
  check_header_refused(kGood + kGood, "not JSON");
  check_header_refused(kGood + std::string("\0\0", 2), "zero byte");
  check_header_refused("{\"\xff\":1}", "not JSON");
  check_header_refused(R"({"a":null})", "found null");
  check_header_refused(R"({"a":[1]})", "found an array");
  check_header_refused(R"({"a":"F32"})", "found a string");
  check_header_refused(R"({"__metadata__":{"k":1}})", "found a number");
  check_header_refused(R"({"__metadata__":{"k":{}}})", "found an object");
}

TEST_CASE("an entry with wrong keys or values is refused, naming the tensor") {
  check_header_refused(R"({"a":{"dtype":"F32","shape":[4]}})", "tensor a");
  check_header_refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})", "\"x\"");
  check_header_refused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                       "the key twice");
  check_header_refused(R"({"a":{"dtype":4,"shape":[4],"data_offsets":[0,16]}})", "found a number");
  check_header_refused(object(entry("F33", "[4]", "[0,16]")), "unknown type \"F33\"");
  check_header_refused(object(entry("F32", "[-4]", "[0,16]")), "negative number");
  check_header_refused(object(entry("F32", "[4.0]", "[0,16]")), "the number 4.0");
  check_header_refused(object(entry("F32", "[[4]]", "[0,16]")), "found an array");
  check_header_refused(object(entry("F32", "[4]", "[0,16,32]")), "3 data_offsets");
  check_header_refused(object(entry("F32", "[1,1,1,1,1,1,4]", "[0,16]")), "7 dimensions");
}

TEST_CASE("a doubled name is refused") {
  check_header_refused(object(entry("F32", "[2]", "[0,8]"), entry("F32", "[2]", "[8,16]")),
                       "doubled");
}

TEST_CASE("shapes that overflow are refused") {
  check_header_refused(object(entry("F32", "[4611686018427387904]", "[0,0]")), "overflows");
  check_header_refused(object(entry("F32", "[4294967296,4294967296]", "[0,0]")), "overflows");
  check_header_refused(object(entry("F32", "[4294967296,4294967296,0]", "[0,0]")), "overflows");
  check_header_refused(object(entry("F32", "[0,4294967296,4294967296]", "[0,0]")), "overflows");
  check_header_refused(object(entry("U8", "[18446744073709551615]", "[0,16]")), "overflows");
  check_header_refused(object(entry("U8", "[18446744073709551616]", "[0,16]")), "the number");
  check_header_refused(object(entry("F4", "[3]", "[0,1]")), "not whole bytes");
}

TEST_CASE("data that does not tile the file is refused") {
  check_header_refused(object(entry("F32", "[4]", "[0,12]")), "needs 16 bytes");
  check_header_refused(object(entry("F32", "[4]", "[16,0]")), "needs 16 bytes");
  check_header_refused(object(entry("F32", "[3]", "[4,16]")), "expected 0: a hole");
  check_header_refused(object(entry("F32", "[2]", "[0,8]"), entry("F32", "[1]", "[12,16]", "b")),
                       "tensor b begins at byte 12");
  check_header_refused(object(entry("F32", "[3]", "[0,12]"), entry("F32", "[2]", "[8,16]", "b")),
                       "overlap");
  check_header_refused(
      object(entry("F32", "[4]", "[0,16]"),
             entry("F32", "[1]", "[18446744073709551612,18446744073709551615]", "b")),
      "needs 4 bytes");
}

TEST_CASE("pickles and GGUF files are refused with what to do") {
  check_refused("PK\x03\x04" + std::string(100, 'z'), "convert to safetensors");
  check_refused("\x80\x02}q" + std::string(100, 'z'), "convert to safetensors");
  check_refused("GGUF\x03" + std::string(100, 'z'), "GGUF file");
  const ScratchFolder folder;
  for (const char* name : {"a.pth", "a.pt", "a.bin", "a.ckpt"}) {
    write_bytes(folder / name, safetensors_bytes(kGood, kData));

    const Error e = error_of([&] { SafetensorsFile(folder / name); });

    CHECK(e.code() == ExitCode::bad_data);
    CHECK(mentions(e, "convert to safetensors"));
  }
}

TEST_CASE("a header whose length looks like a pickle is none") {
  const ScratchFolder folder;
  const std::string header = kGood + std::string(0x10280 - kGood.size(), ' ');
  write_bytes(folder / "a.safetensors", safetensors_bytes(header, kData));

  const SafetensorsFile file(folder / "a.safetensors");

  CHECK(file.entries().size() == 1);
}

TEST_CASE("what is not a file is missing input") {
  const ScratchFolder folder;

  const Error missing = error_of([&] { SafetensorsFile(folder / "none.safetensors"); });
  const Error is_folder = error_of([&] { SafetensorsFile file(folder.path()); });

  CHECK(missing.code() == ExitCode::missing_input);
  CHECK(mentions(missing, "none.safetensors: cannot open: No such file"));
  CHECK(is_folder.code() == ExitCode::missing_input);
  CHECK(mentions(is_folder, "expected a file, found a folder"));
}

TEST_CASE("a file that shrinks while it is read is an error, not garbage") {
  const ScratchFolder folder;
  write_bytes(folder / "a.safetensors", safetensors_bytes(kGood, kData));
  const SafetensorsFile file(folder / "a.safetensors");
  std::filesystem::resize_file(folder / "a.safetensors", 8 + kGood.size() + 10);
  char out[16];

  const Error e = error_of([&] { file.read(file.entries()[0], 0, 16, out); });

  CHECK(e.code() == ExitCode::bad_data);
  CHECK(mentions(e, "the file ended at byte"));
}
