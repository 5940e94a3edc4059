// Runs of 16-bit floats to and from float: the same bits as core/half.h, several at a time.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/half.h>

TENDRIL_DECLARE_ISA(TENDRIL_API void convert_run(const float* from, bfloat16* to, int64_t count))
TENDRIL_DECLARE_ISA(TENDRIL_API void convert_run(const float* from, float16* to, int64_t count))
TENDRIL_DECLARE_ISA(TENDRIL_API void convert_run(const bfloat16* from, float* to, int64_t count))
TENDRIL_DECLARE_ISA(TENDRIL_API void convert_run(const float16* from, float* to, int64_t count))

namespace tendril::cpu {

/// to[i] = from[i] for one of the four pairs above.
template <class From, class To>
void convert_run(const From* from, To* to, int64_t count) {
  TENDRIL_ISA_CALL(convert_run(from, to, count));
}

}  // namespace tendril::cpu
