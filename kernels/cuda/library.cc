#include "kernels/cuda/library.h"

#include <dlfcn.h>

#include "kernels/base/error.h"

namespace longtake::cuda {

Library::Library(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    name_ = name;
    if (handle_) return;
    const char* why = dlerror();
    error_ += (error_.empty() ? "" : "; ") + std::string(why ? why : name);
  }
}

void* Library::address(const char* symbol) const {
  if (!handle_) fail(ExitCode::error, "{} is needed and cannot be opened: {}", name_, error_);
  void* found = dlsym(handle_, symbol);
  if (!found) fail(ExitCode::error, "{} lacks {}: another version is needed", name_, symbol);
  return found;
}

}  // namespace longtake::cuda
