#include "shared_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "emulated.h"
#include "sanitizers.h"

namespace emulated {
namespace {

constexpr size_t kAlignment = 1024;
constexpr size_t kWatched = 1024;            // bytes beyond the end
constexpr int kUnset = 0xFF;                 // NaN in every floating type, -1 in every integer
constexpr unsigned char kUntouched = 0xA5;   // beyond the end
constexpr size_t kMostDeclared = 48 * 1024;  // nvcc takes no more in variables

}  // namespace

SharedMemory::SharedMemory()
    : memory_(new unsigned char[kAlignment + kMostShared + kWatched]), dynamic_(memory_.get()) {
  dynamic_ += kAlignment - reinterpret_cast<uintptr_t>(dynamic_) % kAlignment;
}

SharedMemory::~SharedMemory() { allow(dynamic_, kMostShared + kWatched); }

void SharedMemory::begin_block(size_t dynamic_bytes) {
  bytes_ = dynamic_bytes;
  declared_.clear();
  allow(dynamic_, kMostShared + kWatched);
  std::memset(dynamic_, kUnset, bytes_);
  std::memset(dynamic_ + bytes_, kUntouched, kWatched);
  forbid(dynamic_ + bytes_, kMostShared + kWatched - bytes_);
}

std::string SharedMemory::end_block() {
  allow(dynamic_, kMostShared + kWatched);
  const unsigned char* end = dynamic_ + bytes_;
  const auto touched = std::find_if(end, end + kWatched, [](auto x) { return x != kUntouched; });
  if (touched == end + kWatched) return {};
  return "wrote byte " + std::to_string(touched - dynamic_) +
         " of dynamic shared memory; the launch gave " + std::to_string(bytes_);
}

bool SharedMemory::declare(void* variable, size_t bytes) {
  size_t all = bytes;
  for (const auto& [known, size] : declared_) {
    if (known == variable) return true;
    all += size;
  }
  std::memset(variable, kUnset, bytes);
  declared_.emplace_back(variable, bytes);
  return all <= kMostDeclared && all + bytes_ <= kMostShared;
}

}  // namespace emulated
