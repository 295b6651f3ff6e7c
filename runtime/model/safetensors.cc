#include "runtime/model/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "kernels/base/error.h"
#include "runtime/model/safetensors_header.h"

namespace longtake {

namespace {
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kPrefixBytes = 8;

bool starts_with(std::span<const std::byte> head, std::string_view magic) {
  return head.size() >= magic.size() && std::memcmp(head.data(), magic.data(), magic.size()) == 0;
}

void refuse_other_formats(std::span<const std::byte> head, const std::string& where) {
  using namespace std::string_view_literals;
  const std::string extension = std::filesystem::path(where).extension();
  const bool named_pickle =
      extension == ".pth" || extension == ".pt" || extension == ".bin" || extension == ".ckpt";
  // A zip archive (torch.save) or the opcode PROTO of a bare pickle, protocols 2 to 5.
  // Some lengths of a safetensors header look the same: its ninth byte tells.
  const bool json = head.size() > kPrefixBytes && head[kPrefixBytes] == std::byte{'{'};
  const bool pickle = !json && (starts_with(head, "PK\x03\x04"sv) ||
                                (head.size() >= 2 && head[0] == std::byte{0x80} &&
                                 head[1] >= std::byte{2} && head[1] <= std::byte{5}));
  if (pickle || named_pickle)
    fail(ExitCode::bad_data,
         "{} is a PyTorch pickle, which can run code when it is read: convert "
         "to safetensors",
         where);
  if (!json && starts_with(head, "GGUF"sv))
    fail(ExitCode::bad_data,
         "{} is a GGUF file, expected safetensors: convert to safetensors "
         "(f32, bf16 or f16)",
         where);
}

uint64_t header_bytes(std::span<const std::byte> head, uint64_t file_bytes,
                      const std::string& where) {
  if (file_bytes < kPrefixBytes || head.size() < kPrefixBytes)
    fail(ExitCode::bad_data, "{}: expected a safetensors file of at least 8 bytes, found {}", where,
         std::min<uint64_t>(file_bytes, head.size()));
  uint64_t n = 0;
  for (uint64_t i = 0; i < kPrefixBytes; ++i) n |= std::to_integer<uint64_t>(head[i]) << (8 * i);
  if (n > kMaxHeaderBytes)
    fail(ExitCode::bad_data,
         "{}: the header length says {} bytes, expected at most {}: not a "
         "safetensors file, or damaged",
         where, n, kMaxHeaderBytes);
  if (n > file_bytes - kPrefixBytes)
    fail(ExitCode::bad_data, "{}: the header length says {} bytes, but only {} follow: truncated",
         where, n, file_bytes - kPrefixBytes);
  return n;
}

// Turns data offsets into file offsets; tensors must tile the data exactly.
std::vector<SafetensorsEntry> place(std::vector<HeaderEntry> header, uint64_t data_begin,
                                    uint64_t data_bytes, const std::string& where) {
  std::sort(header.begin(), header.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::vector<SafetensorsEntry> entries;
  entries.reserve(header.size());
  uint64_t at = 0;
  for (HeaderEntry& h : header) {
    if (h.begin != at)
      fail(ExitCode::bad_data, "{}: tensor {} begins at byte {} of the data, expected {}: {}",
           where, h.name, h.begin, at, h.begin > at ? "a hole" : "tensors overlap");
    if (h.end > data_bytes)
      fail(ExitCode::bad_data,
           "{}: tensor {} ends at byte {} of the data, but the file holds only "
           "{}: truncated",
           where, h.name, h.end, data_bytes);
    at = h.end;
    entries.push_back({std::move(h.name), std::move(h.type), h.dtype, h.shape, data_begin + h.begin,
                       h.end - h.begin});
  }
  if (at != data_bytes)
    fail(ExitCode::bad_data, "{}: the tensors end at byte {} of the data, found {} trailing bytes",
         where, at, data_bytes - at);
  return entries;
}

void read_exactly(int fd, uint64_t offset, uint64_t bytes, char* to, const std::string& where) {
  constexpr uint64_t kMost = uint64_t{1} << 30;  // one pread moves at most 2 GiB - 4 KiB
  while (bytes > 0) {
    const ssize_t got = ::pread(fd, to, std::min(bytes, kMost), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ExitCode::io, "{}: cannot read: {}", where, std::strerror(errno));
    if (got == 0)
      fail(ExitCode::bad_data, "{}: the file ended at byte {} while it was read", where, offset);
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
}

uint64_t regular_file_bytes(int fd, const std::string& where) {
  struct stat status {};
  if (::fstat(fd, &status) != 0)
    fail(ExitCode::missing_input, "{}: cannot read: {}", where, std::strerror(errno));
  if (!S_ISREG(status.st_mode))
    fail(ExitCode::missing_input, "{}: expected a file, found {}", where,
         S_ISDIR(status.st_mode) ? "a folder" : "something else");
  return static_cast<uint64_t>(status.st_size);
}

std::vector<SafetensorsEntry> read_entries(int fd, const std::string& where) {
  const uint64_t file_bytes = regular_file_bytes(fd, where);
  std::vector<std::byte> head(std::min(file_bytes, kPrefixBytes + 1));
  read_exactly(fd, 0, head.size(), reinterpret_cast<char*>(head.data()), where);
  refuse_other_formats(head, where);
  head.resize(kPrefixBytes + header_bytes(head, file_bytes, where));
  read_exactly(fd, 0, head.size(), reinterpret_cast<char*>(head.data()), where);
  return parse_safetensors(head, file_bytes, where);
}
}  // namespace

std::vector<SafetensorsEntry> parse_safetensors(std::span<const std::byte> head,
                                                uint64_t file_bytes, const std::string& where) {
  const uint64_t n = header_bytes(head, file_bytes, where);
  LT_CHECK(head.size() >= kPrefixBytes + n, "a header of {} bytes needs more than {} bytes", n,
           head.size());
  const auto* text = reinterpret_cast<const char*>(head.data()) + kPrefixBytes;
  return place(parse_header_json({text, n}, where), kPrefixBytes + n, file_bytes - kPrefixBytes - n,
               where);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  // Without waiting, should somebody have put a pipe there.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0)
    fail(ExitCode::missing_input, "{}: cannot open: {}", path.string(), std::strerror(errno));
  try {
    entries_ = read_entries(fd_, path.string());
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SafetensorsFile::read(const SafetensorsEntry& entry, uint64_t begin, uint64_t bytes,
                           void* to) const {
  LT_CHECK(begin <= entry.bytes && bytes <= entry.bytes - begin,
           "bytes {} to {} of tensor {} with {}", begin, begin + bytes, entry.name, entry.bytes);
  read_exactly(fd_, entry.offset + begin, bytes, static_cast<char*>(to), path_.string());
}

}  // namespace longtake
