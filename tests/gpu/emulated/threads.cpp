// What running threads may call: emulated.h in terms of the multiprocessor.
#include <cstring>
#include <stdexcept>

#include "emulated.h"
#include "multiprocessor.h"

namespace emulated {
namespace {

Multiprocessor& here_or_throw() {
  Multiprocessor* on = Multiprocessor::busy();
  if (!on) throw std::logic_error("[emulated GPU] a host thread called what only kernels may");
  return *on;
}

// An address of 0 in shared memory is nobody's, as nullptr is elsewhere.
constexpr uint32_t kSharedBase = 1024;

void perform(const Fiber::Copy& copy) {
  if (copy.valid > 0) std::memcpy(copy.to, copy.from, copy.valid);
  std::memset(static_cast<unsigned char*>(copy.to) + copy.valid, 0, copy.bytes - copy.valid);
}

bool aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

const unsigned char* detail::exchange_bytes(const void* mine, size_t size,
                                            std::source_location place, Combine combine) {
  return here_or_throw().exchange(mine, size, place, combine);
}

int lane() { return static_cast<int>(here_or_throw().running().thread % 32); }

void synchronize_block(std::source_location place) { here_or_throw().synchronize_block(place); }

void synchronize_warp(std::source_location place) {
  here_or_throw().exchange("", 0, place, nullptr);
}

void trap(const char* what) { here_or_throw().fail(what); }

unsigned char* dynamic_shared() { return here_or_throw().shared().dynamic(); }

void declare_shared(void* variable, size_t bytes) {
  Multiprocessor& on = here_or_throw();
  if (!on.shared().declare(variable, bytes))
    on.fail("has more shared memory in its block than there is");
}

uint32_t shared_address(const void* pointer) {
  const SharedMemory& shared = here_or_throw().shared();
  const auto at =
      reinterpret_cast<uintptr_t>(pointer) - reinterpret_cast<uintptr_t>(shared.dynamic());
  if (at > shared.dynamic_bytes())
    trap("took the shared address of what is not in dynamic shared memory");
  return kSharedBase + static_cast<uint32_t>(at);
}

unsigned char* shared_at(uint32_t address, size_t bytes) {
  const SharedMemory& shared = here_or_throw().shared();
  const uint32_t at = address - kSharedBase;
  if (address < kSharedBase || at + bytes > shared.dynamic_bytes())
    trap("used an address outside of its dynamic shared memory");
  if (at % bytes != 0) trap("used a misaligned address in shared memory");
  return shared.dynamic() + at;
}

// ---------------------------------------------------------------- asynchronous copies

void copy_async(void* to, const void* from, size_t bytes, size_t valid) {
  Multiprocessor& on = here_or_throw();
  if (bytes != 4 && bytes != 8 && bytes != 16)
    trap("copies asynchronously, but not 4, 8 or 16 bytes");
  if (valid > bytes || !aligned(to, bytes) || !aligned(from, bytes))
    trap("copies asynchronously from or to a misaligned address");
  const Fiber::Copy copy{to, from, bytes, valid};
  if (on.copies_at_once()) perform(copy);
  on.running().copies.push_back(copy);
}

void commit_copies() {
  Fiber& fiber = here_or_throw().running();
  size_t grouped = 0;
  for (const size_t size : fiber.group_sizes) grouped += size;
  fiber.group_sizes.push_back(fiber.copies.size() - grouped);
}

void wait_copies(size_t pending) {
  Multiprocessor& on = here_or_throw();
  Fiber& fiber = on.running();
  if (fiber.group_sizes.size() <= pending) return;
  const size_t groups = fiber.group_sizes.size() - pending;
  size_t count = 0;
  for (size_t i = 0; i < groups; ++i) count += fiber.group_sizes[i];
  if (!on.copies_at_once())
    for (size_t i = 0; i < count; ++i) perform(fiber.copies[i]);
  fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + static_cast<ptrdiff_t>(count));
  fiber.group_sizes.erase(fiber.group_sizes.begin(),
                          fiber.group_sizes.begin() + static_cast<ptrdiff_t>(groups));
}

}  // namespace emulated
