// The test runner. LONGTAKE_ISA chooses the instruction set; where the processor lacks it there is
// nothing to test, and the runner says so and succeeds (the list of suites is the same on any
// machine).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "kernels/base/isa.h"

int main(int argc, char** argv) {
  if (const char* text = std::getenv("LONGTAKE_ISA")) {
    const longtake::Isa isa = longtake::parse_isa(text);
    const auto available = longtake::available_isas();
    if (std::find(available.begin(), available.end(), isa) == available.end()) {
      std::printf("this processor has no %s\n", text);
      return 0;
    }
    longtake::set_isa(isa);
  }
  return doctest::Context(argc, argv).run();
}
