#include <tendril/core/crc32c.h>

#include <tendril/core/cpu/crc32c_run.h>

namespace tendril {

uint32_t crc32c(const void* data, size_t bytes, uint32_t previous) {
  // The register starts at all ones and is inverted at the end; undoing the inversion goes on from
  // there.
  return ~TENDRIL_ISA_CALL(crc32c_run(static_cast<const unsigned char*>(data), bytes, ~previous));
}

}  // namespace tendril
