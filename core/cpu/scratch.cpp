#include <tendril/core/cpu/scratch.h>

#include <cstdlib>
#include <new>

namespace tendril::cpu {
namespace {

constexpr int64_t kKeptBytes = 128 << 10;

struct Kept {
  char* data = nullptr;
  bool in_use = false;
  ~Kept() { std::free(data); }
};
thread_local Kept kept;

}  // namespace

Scratch::Scratch(int64_t bytes) {
  if (bytes > kKeptBytes || kept.in_use) {
    storage_ = Storage::allocate(bytes, Device::cpu());
    data_ = static_cast<char*>(storage_->data());
    return;
  }
  if (!kept.data) kept.data = static_cast<char*>(std::aligned_alloc(64, kKeptBytes));
  if (!kept.data) throw std::bad_alloc();
  data_ = kept.data;
  kept.in_use = true;
  kept_in_use_ = &kept.in_use;
}

Scratch::~Scratch() {
  if (kept_in_use_) *kept_in_use_ = false;
}

}  // namespace tendril::cpu
