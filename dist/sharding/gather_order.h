// Private to dist: which unit will be read next. The order is learnt from the first pass.
#pragma once

#include <cstddef>
#include <vector>

namespace tendril::dist {

class GatherOrder {
 public:
  /// A unit is read; returns up to `ahead` units that are expected after it.
  std::vector<size_t> next_after(size_t unit, size_t ahead) {
    place(unit);
    std::vector<size_t> units;
    for (size_t i = cursor_; i < order_.size() && units.size() < ahead; ++i)
      units.push_back(order_[i]);
    return units;
  }
  /// A new pass begins. What the first one read is the order from then on.
  void restart() {
    learning_ = learning_ && order_.empty();
    cursor_ = 0;
  }

 private:
  // Passes that never end in backward (evaluations) are not learnt for ever.
  static constexpr size_t kMost = 4096;

  // Moves the cursor behind the unit: the next time that it comes, else the first time.
  void place(size_t unit) {
    if (learning_) {
      order_.push_back(unit);
      cursor_ = order_.size();
      learning_ = order_.size() < kMost;
      return;
    }
    for (size_t i = 0; i < order_.size(); ++i) {
      const size_t at = (cursor_ + i) % order_.size();
      if (order_[at] != unit) continue;
      cursor_ = at + 1;
      return;
    }
    cursor_ = order_.size();  // never seen: nothing is expected
  }

  std::vector<size_t> order_;
  size_t cursor_ = 0;
  bool learning_ = true;
};

}  // namespace tendril::dist
