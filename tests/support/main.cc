// The test runner. LONGTAKE_ISA chooses the instruction set; where the processor lacks it there is
// nothing to test, and the runner says so and succeeds (the list of suites is the same on any
// machine). With LONGTAKE_DEVICE=cuda the tests run on the first GPU; without one they are skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "kernels/base/isa.h"
#include "kernels/cuda/stream.h"
#include "tests/support/test_stream.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  std::string why;
  if (longtake::testing::tests_on_gpu() && longtake::cuda::devices(&why).empty()) {
    std::printf("no GPU here: %s\n", why.c_str());
    return kSkipped;
  }
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
