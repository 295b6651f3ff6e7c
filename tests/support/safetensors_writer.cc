#include "tests/support/safetensors_writer.h"

#include <fstream>

namespace longtake::testing {

namespace {

std::string type_name(DType dtype) {
  if (dtype == DType::boolean) return "BOOL";
  std::string out(name(dtype));
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  LT_CHECK(file.good(), "cannot write {}", path.string());
}

std::string safetensors_bytes(std::string_view header, std::string_view data, uint64_t stated) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>((stated >> (8 * i)) & 0xff);
  return out.append(header).append(data);
}

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  return safetensors_bytes(header, data, header.size());
}

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors) {
  std::string header = "{", data;
  for (const NamedTensor& t : tensors) {
    const size_t begin = data.size();
    data.append(static_cast<const char*>(t.data.view().data), t.data.bytes());
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", t.name, type_name(t.data.dtype()),
                          t.data.shape().text(), begin, data.size());
  }
  write_bytes(path, safetensors_bytes(header + "}", data));
}

}  // namespace longtake::testing
