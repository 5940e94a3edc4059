// The inner loop of core/crc32c.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tendril/core/cpu/isa.h>

/// The register after `bytes` more bytes, without the inversions at start and end.
TENDRIL_DECLARE_ISA(uint32_t crc32c_run(const unsigned char* data, size_t bytes, uint32_t crc))
