// Short-lived working memory. A thread keeps one small piece for its next call; larger pieces, and
// those that are needed while the kept one is in use, come from the allocator.
#pragma once

#include <memory>

#include <tendril/core/allocator.h>

namespace tendril::cpu {

class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  char* data() const { return data_; }  // aligned to 64

 private:
  char* data_;
  bool* kept_in_use_ = nullptr;
  std::shared_ptr<Storage> storage_;
};

}  // namespace tendril::cpu
