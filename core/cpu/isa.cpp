#include <tendril/core/cpu/isa.h>

#include <tendril/core/cpu/gemm_kernels.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#if defined(TENDRIL_HAVE_ISA_AVX512)
#include <cpuid.h>
#endif

namespace tendril::cpu {
namespace {

#if defined(TENDRIL_HAVE_ISA_AVX512)
// Not every compiler's __builtin_cpu_supports() knows this one.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

Isa detect() {
#if defined(TENDRIL_HAVE_ISA_AVX512)
  Isa best = Isa::generic;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
    best = Isa::avx2;
  if (best == Isa::avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    best = Isa::avx512;
  if (const char* wanted = std::getenv("TENDRIL_ISA")) {
    if (!std::strcmp(wanted, "generic")) best = Isa::generic;
    if (!std::strcmp(wanted, "avx2")) best = std::min(best, Isa::avx2);
  }
  return best;
#else
  return Isa::generic;
#endif
}

}  // namespace

Isa isa() {
  static const Isa chosen = detect();
  return chosen;
}

// Part of avx512: whoever lowers the instruction set gives it up.
bool has_bf16_dot() {
#if defined(TENDRIL_HAVE_ISA_AVX512)
  static const bool present = isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
  return present;
#else
  return false;
#endif
}

const char* isa_name() {
  static constexpr const char* kNames[] = {"generic", "avx2", "avx512"};
  return kNames[static_cast<int>(isa())];
}

}  // namespace tendril::cpu
