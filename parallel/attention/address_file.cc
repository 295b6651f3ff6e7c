// RUN/workers.addr, for instance
//   token 5f0c...
//   rank 0 node7 41235
//   rank 1 node8 40112
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "kernels/base/error.h"
#include "parallel/attention/pair_listener.h"

namespace longtake {

namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr size_t kMaxHost = 255;
constexpr mode_t kOwnerOnly = 0600;

class File {
 public:
  File(const std::filesystem::path& path, int flags, ExitCode code)
      : path_(path), descriptor_(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, kOwnerOnly)) {
    if (descriptor_ < 0) cannot(code, "open");
  }
  ~File() {
    if (descriptor_ >= 0) (void)::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[noreturn]] void cannot(ExitCode code, std::string_view action) const {
    fail(code, "cannot {} {}: {}", action, path_.string(), std::strerror(errno));
  }
  int descriptor() const { return descriptor_; }

  void write_and_close(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::write(descriptor_, text.data(), text.size());
      if (n < 0 && errno != EINTR) cannot(ExitCode::io, "write");
      text.remove_prefix(static_cast<size_t>(std::max<ssize_t>(n, 0)));
    }
    if (::fsync(descriptor_) != 0) cannot(ExitCode::io, "fsync");
    if (::close(std::exchange(descriptor_, -1)) != 0) cannot(ExitCode::io, "close");
  }

  std::string read() const {
    std::string out;
    std::array<char, 4096> piece;
    while (out.size() <= kMaxFileBytes) {
      const ssize_t n = ::read(descriptor_, piece.data(), piece.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) cannot(ExitCode::missing_input, "read");
      if (n == 0) return out;
      out.append(piece.data(), static_cast<size_t>(n));
    }
    fail(ExitCode::bad_data, "{}: expected at most {} bytes, found more", path_.string(),
         kMaxFileBytes);
  }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= kMaxHost &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// One line; errors name it.
class Line {
 public:
  Line(const std::filesystem::path& path, int number, std::string_view text)
      : path_(path), number_(number), left_(text) {}

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ExitCode::bad_data, "{} line {}: {}", path_.string(), number_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  std::string_view word() {
    const size_t end = std::min(left_.find(' '), left_.size());
    const std::string_view out = left_.substr(0, end);
    left_.remove_prefix(std::min(end + 1, left_.size()));
    return out;
  }
  void expect_word(std::string_view expected) {
    const std::string_view found = word();
    if (found != expected) bad("expected `{}`, found `{}`", expected, printable(found));
  }
  int number(std::string_view what, int least, int most) {
    const std::string_view text = word();
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
      bad("{}: expected {} to {}, found `{}`", what, least, most, printable(text));
    return value;
  }
  void finish() const {
    if (!left_.empty()) bad("expected its end, found `{}`", printable(left_));
  }
  static std::string printable(std::string_view text) {
    std::string out(text.substr(0, 80));
    for (char& c : out)
      if (c < 0x20 || c > 0x7e) c = '?';
    return out;
  }

 private:
  const std::filesystem::path& path_;
  int number_;
  std::string_view left_;
};

std::string hex(const WorkerToken& token) {
  std::string out;
  for (const std::byte byte : token) out += fmt::format("{:02x}", std::to_integer<int>(byte));
  return out;
}

// What is wrong with a token is said without showing it.
WorkerToken parse_token(Line& line) {
  line.expect_word("token");
  const std::string_view text = line.word();
  WorkerToken token;
  if (text.size() != 2 * token.size())
    line.bad("token: expected {} hexadecimal digits, found {} characters", 2 * token.size(),
             text.size());
  for (size_t i = 0; i < token.size(); ++i) {
    const char* begin = text.data() + 2 * i;
    uint8_t value = 0;
    const auto [end, error] = std::from_chars(begin, begin + 2, value, 16);
    if (error != std::errc() || end != begin + 2)
      line.bad("token: expected hexadecimal digits, found something else at {}", 2 * i);
    token[i] = std::byte{value};
  }
  line.finish();
  return token;
}

PairAddress parse_rank(Line& line, int rank) {
  line.expect_word("rank");
  PairAddress address;
  address.rank = line.number("rank", rank, rank);
  address.host = line.word();
  if (!is_host(address.host))
    line.bad("host: expected 1 to {} printable characters, found `{}`", kMaxHost,
             Line::printable(address.host));
  address.port = static_cast<uint16_t>(line.number("port", 1, 65535));
  line.finish();
  return address;
}

void check_private(const File& file, const std::filesystem::path& path) {
  struct stat found {};
  if (::fstat(file.descriptor(), &found) != 0) file.cannot(ExitCode::missing_input, "stat");
  if (!S_ISREG(found.st_mode))
    fail(ExitCode::bad_data, "{}: expected a regular file", path.string());
  if ((found.st_mode & 077) != 0)
    fail(ExitCode::bad_data,
         "{}: expected mode 0600 (it holds a secret), found {:04o}: others can read it",
         path.string(), found.st_mode & 07777);
  if (found.st_uid != ::geteuid())
    fail(ExitCode::bad_data, "{}: expected a file of user {}, found one of user {}", path.string(),
         ::geteuid(), found.st_uid);
}

}  // namespace

void write_address_file(const std::filesystem::path& path, const AddressFile& addresses) {
  std::string text = fmt::format("token {}\n", hex(addresses.token));
  for (size_t i = 0; i < addresses.ranks.size(); ++i) {
    const PairAddress& address = addresses.ranks[i];
    LT_CHECK(address.rank == static_cast<int>(i), "rank {} at place {}", address.rank, i);
    LT_CHECK(is_host(address.host), "host name `{}`", address.host);
    LT_CHECK(address.port != 0, "no port for rank {}", i);
    text += fmt::format("rank {} {} {}\n", address.rank, address.host, address.port);
  }
  const std::filesystem::path temporary = path.parent_path() / (".tmp." + path.filename().string());
  (void)::unlink(temporary.c_str());  // of a run that was killed here; mostly there is none
  File file(temporary, O_WRONLY | O_CREAT | O_EXCL, ExitCode::cannot_create);
  try {
    file.write_and_close(text);
    if (::rename(temporary.c_str(), path.c_str()) != 0) file.cannot(ExitCode::io, "rename");
  } catch (const Error&) {
    (void)::unlink(temporary.c_str());
    throw;
  }
}

AddressFile read_address_file(const std::filesystem::path& path) {
  const File file(path, O_RDONLY | O_NONBLOCK, ExitCode::missing_input);
  check_private(file, path);
  const std::string text = file.read();
  AddressFile out;
  std::string_view left = text;
  int number = 0;
  while (!left.empty()) {
    const size_t end = left.find('\n');
    Line line(path, ++number, left.substr(0, end));
    if (end == std::string_view::npos) line.bad("expected a whole line, found the end of the file");
    left.remove_prefix(end + 1);
    if (number == 1)
      out.token = parse_token(line);
    else
      out.ranks.push_back(parse_rank(line, number - 2));
  }
  if (out.ranks.empty())
    Line(path, number + 1, "")
        .bad("expected a {}, found the end of the file", number == 0 ? "token" : "rank");
  return out;
}

}  // namespace longtake
