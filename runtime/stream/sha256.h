// SHA-256, through OpenSSL.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace longtake {

class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t bytes);
  std::string hex() const;  // of everything so far; more may follow

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
};

std::string sha256_hex(std::string_view text);

}  // namespace longtake
