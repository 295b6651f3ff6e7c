#include "kernels/base/isa.h"

#include <atomic>

#include "kernels/base/error.h"
#include "kernels/cpu/kernel_table.h"

namespace longtake {

namespace {

// -1: not chosen yet.
std::atomic<int> chosen{-1};

bool processor_has(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return true;
#if defined(LONGTAKE_X86)
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    case Isa::avx512_bf16:
      return processor_has(Isa::avx512) && __builtin_cpu_supports("avx512bf16");
#endif
    default:
      return false;
  }
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
  }
  return "?";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> out;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    if (processor_has(isa)) out.push_back(isa);
  return out;
}

Isa best_isa() {
  return available_isas().back();
}

Isa parse_isa(std::string_view text) {
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    if (text == name(isa)) return isa;
  fail(ExitCode::usage,
       "instruction set: expected portable, avx2, avx512 or avx512_bf16, found \"{}\"", text);
}

void set_isa(Isa isa) {
  if (!processor_has(isa))
    fail(ExitCode::usage, "instruction set {}: this processor has at most {}", name(isa),
         name(best_isa()));
  chosen.store(static_cast<int>(isa));
}

Isa active_isa() {
  if (chosen.load() < 0) chosen.store(static_cast<int>(best_isa()));
  return static_cast<Isa>(chosen.load());
}

namespace cpu {

const KernelTable& active_kernels() {
  switch (active_isa()) {
#if defined(LONGTAKE_X86)
    case Isa::avx512_bf16:
      return avx512_bf16::table();
    case Isa::avx512:
      return avx512::table();
    case Isa::avx2:
      return avx2::table();
#endif
    default:
      return portable::table();
  }
}

}  // namespace cpu
}  // namespace longtake
