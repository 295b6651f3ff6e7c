#include "runtime/stream/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "kernels/base/error.h"

namespace longtake {

namespace {

EVP_MD_CTX* as_context(void* p) {
  return static_cast<EVP_MD_CTX*>(p);
}

}  // namespace

void Sha256::Free::operator()(void* context) const {
  EVP_MD_CTX_free(as_context(context));
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  LT_CHECK(context_ && EVP_DigestInit_ex(as_context(context_.get()), EVP_sha256(), nullptr) == 1,
           "OpenSSL offers no SHA-256");
}

void Sha256::update(const void* data, size_t bytes) {
  LT_CHECK(EVP_DigestUpdate(as_context(context_.get()), data, bytes) == 1, "SHA-256 failed");
}

std::string Sha256::hex() const {
  const std::unique_ptr<void, Free> copy(EVP_MD_CTX_new());
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  LT_CHECK(copy && EVP_MD_CTX_copy_ex(as_context(copy.get()), as_context(context_.get())) == 1 &&
               EVP_DigestFinal_ex(as_context(copy.get()), digest.data(), &length) == 1,
           "SHA-256 failed");
  std::string out;
  for (unsigned int i = 0; i < length; ++i) out += fmt::format("{:02x}", digest[i]);
  return out;
}

std::string sha256_hex(std::string_view text) {
  Sha256 hash;
  hash.update(text.data(), text.size());
  return hash.hex();
}

}  // namespace longtake
