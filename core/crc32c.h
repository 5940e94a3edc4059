// CRC-32C (Castagnoli), the checksum of iSCSI (RFC 3720), ext4, and TensorBoard's event files. It
// finds every error burst of up to 32 bits, so every single changed byte.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tendril/core/api.h>

namespace tendril {

/// The checksum of `bytes` bytes; of "123456789" it is 0xE3069283. In pieces:
/// crc32c(b, n, crc32c(a, m)) is that of a followed by b. Nothing has checksum 0.
TENDRIL_API uint32_t crc32c(const void* data, size_t bytes, uint32_t previous = 0);

}  // namespace tendril
