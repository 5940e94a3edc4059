// Choosing among the instruction sets for which the *.isa.cpp files were compiled.
//
// Such a file defines its functions in `namespace tendril::cpu::TENDRIL_ISA` and works on raw
// pointers: no std containers, no std::function, only functions that inline (ISA_INLINE) or live in
// that namespace. Anything else could be emitted as a weak symbol with AVX-512 instructions in it,
// and the linker might pick that copy for the whole program. tests/check_isa_symbols.sh looks for
// such symbols.
//
// A header declares the function once for each set and calls the right one:
//   TENDRIL_DECLARE_ISA(void scale(float* x, int64_t n, float factor))
//   TENDRIL_ISA_CALL(scale(x, n, 2.0f));
#pragma once

#include <tendril/core/api.h>

#define ISA_INLINE static inline __attribute__((always_inline))

namespace tendril::cpu {

enum class Isa { generic, avx2, avx512 };

/// The best instruction set that was compiled in and that this processor has. The environment
/// variable TENDRIL_ISA (generic, avx2, avx512), read once, can only lower it.
TENDRIL_API Isa isa();
TENDRIL_API const char* isa_name();

}  // namespace tendril::cpu

#define TENDRIL_DECLARE_ISA(...)    \
  namespace tendril::cpu::generic { \
  __VA_ARGS__;                      \
  }                                 \
  namespace tendril::cpu::avx2 {    \
  __VA_ARGS__;                      \
  }                                 \
  namespace tendril::cpu::avx512 {  \
  __VA_ARGS__;                      \
  }

#if defined(TENDRIL_HAVE_ISA_AVX2) && defined(TENDRIL_HAVE_ISA_AVX512)
#define TENDRIL_ISA_CALL(...)                                                                 \
  (::tendril::cpu::isa() == ::tendril::cpu::Isa::avx512 ? ::tendril::cpu::avx512::__VA_ARGS__ \
   : ::tendril::cpu::isa() == ::tendril::cpu::Isa::avx2 ? ::tendril::cpu::avx2::__VA_ARGS__   \
                                                        : ::tendril::cpu::generic::__VA_ARGS__)
#else
#define TENDRIL_ISA_CALL(...) (::tendril::cpu::generic::__VA_ARGS__)
#endif
