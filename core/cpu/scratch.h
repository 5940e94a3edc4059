// Short-lived working memory. Each thread keeps one piece from which scopes take and give back in
// turn, like a stack; what does not fit comes from the allocator.
#pragma once

#include <memory>

#include <tendril/core/allocator.h>

namespace tendril::cpu {

/// Uninitialised memory until the end of the scope. Scratches of a thread end in reverse order of
/// their beginning, which scopes do by themselves.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  char* data() const { return data_; }  // aligned to 64

 private:
  char* data_;
  int64_t taken_ = 0;  // from the thread's piece
  std::shared_ptr<Storage> storage_;
};

/// The same as `count` numbers.
template <class T>
class ScratchArray {
 public:
  explicit ScratchArray(int64_t count) : scratch_(count * static_cast<int64_t>(sizeof(T))) {}
  T* get() const { return reinterpret_cast<T*>(scratch_.data()); }

 private:
  Scratch scratch_;
};

}  // namespace tendril::cpu
