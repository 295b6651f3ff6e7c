// A shared library that is opened when it is first needed. cuBLASLt, cuDNN and NCCL are opened this
// way: linking them would cost every start of the program about 80 ms, and a machine without them
// could not start it at all.
#pragma once

#include <initializer_list>
#include <string>

namespace longtake::cuda {

class Library {
 public:
  // The first of `names` ("libcudnn.so.9") that can be opened; empty otherwise, see error().
  explicit Library(std::initializer_list<const char*> names);

  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& error() const { return error_; }

  // Fills `function` (a pointer to the library's own type of it); fails with the symbol's name.
  template <class Function>
  void load(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

 private:
  void* address(const char* symbol) const;
  void* handle_ = nullptr;  // stays open
  std::string name_, error_;
};

}  // namespace longtake::cuda
