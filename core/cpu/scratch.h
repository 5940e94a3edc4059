// Short-lived working memory. Each thread keeps one piece from which scopes take and give back in
// turn, like a stack. What does not fit comes from the allocator, whose blocks serve tensors too;
// but while several threads work it comes from blocks that each of them keeps: how many threads
// hold one at the same moment is up to chance, and a steady step must not ask the system for more.
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
  int64_t taken_ = 0;      // from the thread's piece
  bool is_block_ = false;  // of the thread's own blocks
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
