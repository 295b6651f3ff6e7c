#include "kernels/base/error.h"

#include <cstring>

namespace longtake {

void fail_formatted(ExitCode code, fmt::string_view format, fmt::format_args args) {
  throw Error(code, fmt::vformat(format, args));
}

void check_failed(const char* expression, const char* file, int line, fmt::string_view format,
                  fmt::format_args args) {
  const char* slash = std::strrchr(file, '/');
  throw Error(ExitCode::error, fmt::format("{} (check `{}` at {}:{})", fmt::vformat(format, args),
                                           expression, slash ? slash + 1 : file, line));
}

}  // namespace longtake
