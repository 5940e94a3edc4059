// The check that every map-style dataset makes first.
#pragma once

#include <cstdint>

#include <tendril/core/error.h>

namespace tendril {

inline void require_index(const char* op, int64_t index, int64_t size) {
  TENDRIL_CHECK(index >= 0 && index < size, "[", op, "] there is no example ", index,
                "; the dataset has ", size);
}

}  // namespace tendril
