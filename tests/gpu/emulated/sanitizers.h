// What the emulator tells AddressSanitizer, where there is one.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATED_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATED_ADDRESS_SANITIZER
#endif
#endif

#ifdef EMULATED_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulated {

inline void forbid([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef EMULATED_ADDRESS_SANITIZER
  __asan_poison_memory_region(memory, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef EMULATED_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace emulated
